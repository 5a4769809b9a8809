"""The cache of reviewed items."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from fusion.codec import RATES, Profile, Rate
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, InputError
from fusion.review.answers import match_truth, truth_answers
from fusion.review.features import extract_features
from fusion.review.item_cache import ItemCache, write_shard
from fusion.review.synthetic import synthetic_evidence, synthetic_layout, write_synthetic_cache
from fusion.task import Task
from fusion.types import Box2D, TruthObject


def test_rows_come_back_as_they_were_extracted(yard: Task, profile: Profile, tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path, yard, profile, 6, seed=40)
    write_shard(tmp_path, 1, [], yard, synthetic_layout(yard, profile))
    cache = ItemCache.load(tmp_path)
    assert len(cache) == 6
    assert cache.profile.sha256 == profile.sha256
    evidence, answers = synthetic_evidence(yard, profile, 43, pixels=True)
    expected, row = extract_features(evidence, profile, cache.layout), cache.features(3, pixels=True)
    np.testing.assert_array_equal(row.opinion, expected.opinion)
    np.testing.assert_array_equal(row.crop, expected.crop)
    np.testing.assert_allclose(row.tokens, expected.tokens, rtol=1e-3, atol=1e-3)
    for got, wanted in zip(row.maps, expected.maps, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
    truth = {slot.name: slot.options[k] for slot, k in zip(yard.slots, cache.columns["truth"][3], strict=True)}
    assert truth == answers
    assert cache.features(3, pixels=False).crop is None
    assert cache.features(3, pixels=False, maps=False).maps is None
    assert len(cache.take(cache.columns["scene"] == 0)) == 4


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: rate.name)
@pytest.mark.parametrize("task", ["yard", "pcb"])
def test_a_row_at_a_rate_is_what_evidence_sent_at_it_tells(task: str, rate: Rate, tmp_path: Path) -> None:
    named, profile = Task.load(task), synthetic_profile(task=task)
    write_synthetic_cache(tmp_path, named, profile, 3, seed=40)
    cache = ItemCache.load(tmp_path)
    for row in range(3):
        sent = synthetic_evidence(named, profile, 40 + row, rate=rate)[0]
        wanted, got = extract_features(sent, profile, cache.layout), cache.features(row, pixels=False, rate=rate)
        np.testing.assert_array_equal(got.opinion, wanted.opinion)
        for mine, theirs in zip(got.maps, wanted.maps, strict=True):
            np.testing.assert_array_equal(mine, theirs.astype(np.float16))
        assert (got.tokens is None) == (wanted.tokens is None) == (task == "pcb")
        if wanted.tokens is not None:
            np.testing.assert_array_equal(got.tokens, wanted.tokens.astype(np.float16))
    finest = cache.features(0, pixels=False)
    assert np.array_equal(finest.maps[0], cache.features(0, pixels=False, rate=rate).maps[0]) == (rate.layers > 1)


def test_a_cache_of_one_rate_is_refused(yard: Task, profile: Profile, tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path, yard, profile, 2)
    shard = tmp_path / "shard-00000.npz"
    np.savez(shard, **{name: values for name, values in np.load(shard).items() if "least" not in name})
    with pytest.raises(InputError, match="no items at all rates"):
        ItemCache.load(tmp_path)


def test_no_cache_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a cache of review items"):
        ItemCache.load(tmp_path)


def test_a_damaged_cache_is_one_line(yard: Task, profile: Profile, tmp_path: Path) -> None:
    write_synthetic_cache(tmp_path, yard, profile, 2)
    shard, whole = tmp_path / "shard-00000.npz", (tmp_path / "shard-00000.npz").read_bytes()
    foreign, array, lacking = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(foreign, scene=np.zeros(2), other=np.zeros(2))
    np.save(array, np.zeros(2))
    np.savez(lacking, **{name: values for name, values in np.load(shard).items() if name != "opinion"})
    write_shard(tmp_path, 1, [], yard, synthetic_layout(yard, profile))
    for damaged in (b"", whole[: len(whole) // 2], b"hello", array.getvalue(), foreign.getvalue()):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match=r"shard-00000\.npz: .*build it again|no items at all rates") as told:
            ItemCache.load(tmp_path)
        assert "\n" not in str(told.value)
    shard.write_bytes(whole)
    shard.with_name("shard-00002.npz").write_bytes(lacking.getvalue())
    with pytest.raises(InputError, match=r"shard-00002\.npz: .*build it again"):
        ItemCache.load(tmp_path)
    for described in ("[]", "{}", "3", "[" * 100_000):
        (tmp_path / "cache.json").write_text(described)
        with pytest.raises(InputError, match="not a cache of review items"):
            ItemCache.load(tmp_path)


def test_truth_answers_every_slot() -> None:
    yard, pcb = Task.load("yard"), Task.load("pcb")
    drum = TruthObject(1, "drum", "leaking", asked_for=True, action="contain")
    assert truth_answers(yard, drum) == {"object": "drum", "condition": "leaking", "asked": "yes", "action": "contain"}
    assert truth_answers(yard, None) == {"object": "nothing", "condition": "ok", "asked": "no", "action": "none"}
    assert truth_answers(pcb, TruthObject(1, "spur")) == {"defect": "real", "type": "spur"}
    assert truth_answers(pcb, None) == {"defect": "false-alarm", "type": "none"}
    with pytest.raises(ConfigError, match="no option 'cat'"):
        truth_answers(yard, TruthObject(1, "cat"))


def test_an_item_is_what_it_overlaps_best() -> None:
    boxes = [(Box2D(0, 0, 10, 10), "a"), (Box2D(2, 0, 12, 10), "b"), (Box2D(50, 50, 60, 60), "c")]
    assert match_truth(Box2D(2, 0, 12, 11), boxes) == "b"
    assert match_truth(Box2D(5, 5, 30, 30), boxes) is None
    assert match_truth(Box2D(51, 51, 60, 60), boxes, iou=0.9) is None
