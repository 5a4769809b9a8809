"""A cache holds what the device would have seen, and what is true of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion import geometry
from fusion.errors import InputError
from fusion.geometry import CameraCalibration
from fusion.model.build import build_fusion
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.rays import cell_rays
from fusion.training.fusion_data import PATTERNS, ModalityDropout, Presence, SceneSampler, batch_rays, batches
from fusion.training.scene_features import FROM_DETECTOR, FROM_TRUTH, FeatureCache, claim, open_cache
from fusion.training.shaking import rotation_y, rotation_z, shake
from fusion.training.sounds import HeardEars, HeardTokens, heard_sounds, pooled_utterances, recorded_sounds, said_in
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
    sampler = SceneSampler(cache, spec)
    batch = sampler.gather([sampler.evaluation(0, presence, (0.1, 0.2, 0.3))])
    assert bool(batch["camera_available"]) == presence.camera
    assert bool(batch["lidar_available"]) == presence.lidar
    assert batch["camera_age"].tolist() == [[pytest.approx(0.1)]]
    assert batch["lidar_age"].tolist() == [pytest.approx(0.2)]
    assert batch["box_valid"].sum() == (2 if presence.camera else 0)
    assert bool(batch["item_points_valid"].any()) == (presence.camera and presence.lidar)
    if not presence.speech:
        assert not batch["speech_available"]
        assert int(batch["asked"]) == -1


def test_training_drops_sensors_as_often_as_said(cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank) -> None:
    rng = np.random.default_rng(1)
    sampler = SceneSampler(cache, spec, bank)
    draws = [sampler.training(i % 24, rng) for i in range(400)]
    camera = np.array([d.presence.camera for d in draws])
    lidar = np.array([d.presence.lidar for d in draws])
    assert (camera | lidar).all()
    assert 0.19 < (~camera).mean() < 0.31
    assert 0.19 < (~lidar).mean() < 0.31
    batch = sampler.gather(draws)
    assert {-1, 0, 1} == set(batch["asked"].tolist())
    assert bool((batch["asked"][~batch["speech_available"]] == -1).all())


def test_a_specialist_never_sees_another_sensor(cache: FeatureCache, spec: FusionSpec) -> None:
    rng = np.random.default_rng(3)
    sampler = SceneSampler(cache, spec, given=Presence(lidar=False), dropout=ModalityDropout(0.0, 0.0))
    draws = [sampler.training(i % 24, rng) for i in range(50)]
    assert {d.presence for d in draws} == {Presence(lidar=False)}


def test_an_utterance_put_into_a_scene_means_its_object(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank
) -> None:
    rng = np.random.default_rng(2)
    sampler = SceneSampler(cache, spec, bank)
    batch = sampler.gather([sampler.training(i % 24, rng) for i in range(60)])
    heard = batch["speech_available"] & (batch["asked"] >= 0)
    assert bool(heard.any())
    for asked, words in zip(batch["asked"][heard], batch["words"][heard], strict=True):
        assert words[spec.words.index("inspect")] == 1
        assert (int(asked) == 0) == bool(words[spec.words.index("drum")])


def test_batches_repeat_with_their_seed(cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank) -> None:
    sampler = SceneSampler(cache, spec, bank)
    first, again = (next(batches(sampler, range(24), 8, [7, 0])) for _ in range(2))
    assert all(bool((first[name] == again[name]).all()) for name in first)
    assert first["p4"].shape[0] == 8
    assert first["truth_label"].dtype.is_signed


def test_a_shaken_batch_is_another_one_and_the_tables_stay(cache: FeatureCache, spec: FusionSpec) -> None:
    sampler = SceneSampler(cache, spec)
    plain = sampler.gather([sampler.evaluation(0, PATTERNS["all"])])
    shaken = {name: value.clone() for name, value in plain.items()}
    shake(shaken, torch.Generator().manual_seed(5))
    changed = {name for name in plain if not torch.equal(plain[name], shaken[name])}
    assert {"rays", "box_rays", "points", "item_points"} <= changed
    assert "p4" not in changed
    turn = shaken["rays"].view(-1, 3).norm(dim=1) - plain["rays"].view(-1, 3).norm(dim=1)
    assert float(turn.abs().max()) < 1e-4
    assert float((shaken["points"] - plain["points"]).abs().max()) < 0.1
    again = sampler.gather([sampler.evaluation(0, PATTERNS["all"])])
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_rays_of_a_batch_are_those_the_device_computes(cache: FeatureCache, spec: FusionSpec) -> None:
    flat = cache.features.calibration[3]
    camera = CameraCalibration(
        spec.image_width, spec.image_height, flat[:9].reshape(3, 3), np.zeros(0), flat[9:].reshape(4, 4)
    )
    mine = batch_rays(torch.from_numpy(flat[None]), spec)
    np.testing.assert_allclose(mine.numpy(), cell_rays(camera), atol=1e-5)


def test_rotations_turn_as_the_geometry_does() -> None:
    angles = torch.tensor([0.3, -1.2])
    for made, expected in ((rotation_z, geometry.rotation_z), (rotation_y, geometry.rotation_y)):
        np.testing.assert_allclose(made(angles), np.stack([expected(float(a)) for a in angles]), atol=1e-6)


def test_frozen_ears_hear_what_was_said(cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank) -> None:
    torch.manual_seed(3)
    model = build_fusion(spec).eval()
    heard = heard_sounds(model.speech, recorded_sounds(cache), said_in(cache, spec.intents))
    sampler = SceneSampler(cache, spec, sounds=HeardTokens(cache, spec, recordings=heard))
    plain = SceneSampler(cache, spec)
    draws = [[s.evaluation(i, PATTERNS["all"]) for i in range(6)] for s in (plain, sampler)]
    with torch.inference_mode():
        live, _, _ = model(plain.gather(draws[0]))
        model.encoders["speech"] = HeardEars(heard.positions, len(spec.intents), spec.width)
        frozen, _, _ = model(sampler.gather(draws[1]))
    torch.testing.assert_close(frozen.item_tokens, live.item_tokens, atol=2e-2, rtol=0)
    pool = pooled_utterances(build_fusion(spec).speech, bank, count=12, silent=0.5)
    drawn = HeardTokens(cache, spec, pool=pool).drawn(0, np.random.default_rng(0))
    assert drawn.sound in range(12)
