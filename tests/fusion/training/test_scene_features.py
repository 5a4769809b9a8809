"""A cache holds what the device would have seen, and what is true of it."""

from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fusion_data import PATTERNS, SceneSampler, batches, collate
from fusion.training.scene_features import FROM_DETECTOR, FROM_TRUTH, FeatureCache, claim, open_cache
from fusion.training.utterances import UtteranceBank
from fusion.types import Box2D


def test_rows_know_where_they_come_from(cache: FeatureCache) -> None:
    features = cache.features
    assert len(cache) == 24
    assert features.row_kind[0, :6].tolist() == [FROM_DETECTOR] * 2 + [FROM_TRUTH] * 4
    assert features.row_truth[0, :7].tolist() == [0, 1, 0, 1, 0, 1, -1]
    assert features.label[0, :3].tolist() == [0, 3, -1]
    assert features.box3d[0, 0, 5] == pytest.approx(np.log(1.2))
    assert features.item_point_count[0, 0] > 10
    gap = features.item_place[:, 0, :2] - features.box3d[:, 0, :2]
    assert float(np.abs(gap).max()) < 0.6


def test_phrases_name_objects_without_doubt(cache: FeatureCache) -> None:
    assert ("the drum", 0) in cache.phrases[0]
    assert ("the cone", 1) in cache.phrases[0]
    assert set(cache.transcripts) == {"", "inspect the drum"}


def test_a_detection_belongs_to_what_it_overlaps_most() -> None:
    targets = [Box2D(0, 0, 10, 10), None, Box2D(4, 0, 14, 10)]
    assert claim(Box2D(3, 0, 13, 10), targets) == 2
    assert claim(Box2D(0, 0, 3, 3), targets) == -1
    assert claim(Box2D(0, 0, 3, 3), []) == -1


def test_an_unfinished_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a finished feature cache"):
        open_cache(tmp_path)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_evaluation_samples_have_the_sensors_of_their_pattern(
    cache: FeatureCache, spec: FusionSpec, pattern: str
) -> None:
    presence = PATTERNS[pattern]
    sample = SceneSampler(cache, spec).evaluation(0, presence)
    assert bool(sample["camera_available"]) == presence.camera
    assert bool(sample["lidar_available"]) == presence.lidar
    assert sample["box_valid"].sum() == (2 if presence.camera else 0)
    assert bool(sample["item_points_valid"].any()) == (presence.camera and presence.lidar)
    if not presence.speech:
        assert not sample["speech_available"]
        assert int(sample["asked"]) == -1


def test_training_drops_sensors_as_often_as_said(cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank) -> None:
    rng = np.random.default_rng(1)
    sampler = SceneSampler(cache, spec, bank)
    samples = [sampler.training(i % 24, rng) for i in range(400)]
    camera = np.array([bool(s["camera_available"]) for s in samples])
    lidar = np.array([bool(s["lidar_available"]) for s in samples])
    assert (camera | lidar).all()
    assert 0.19 < (~camera).mean() < 0.31
    assert 0.19 < (~lidar).mean() < 0.31
    asked = np.array([int(s["asked"]) for s in samples])
    assert {-1, 0, 1} == set(asked.tolist())
    assert (asked[[not bool(s["speech_available"]) for s in samples]] == -1).all()


def test_an_utterance_put_into_a_scene_means_its_object(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank
) -> None:
    rng = np.random.default_rng(2)
    sampler = SceneSampler(cache, spec, bank)
    for i in range(60):
        sample = sampler.training(i % 24, rng)
        if bool(sample["speech_available"]) and int(sample["asked"]) >= 0:
            assert sample["words"][spec.words.index("inspect")] == 1
            assert (int(sample["asked"]) == 0) == bool(sample["words"][spec.words.index("drum")])


def test_batches_repeat_with_their_seed(cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank) -> None:
    sampler = SceneSampler(cache, spec, bank)
    first, again = (next(batches(sampler, range(24), 8, [7, 0])) for _ in range(2))
    assert all(bool((first[name] == again[name]).all()) for name in first)
    assert first["p4"].shape[0] == 8
    assert collate([sampler.evaluation(0, PATTERNS["all"])])["truth_label"].dtype.is_signed
