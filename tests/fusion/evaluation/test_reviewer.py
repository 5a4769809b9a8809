"""The comparison of reviewer and device, and the device's own answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, InputError
from fusion.evaluation.answers import detector_answers, device_answers
from fusion.evaluation.reviewer import (
    best_threshold,
    calibrate_reviewer,
    escalated,
    escalated_rows,
    evaluate_reviewer,
    predict,
)
from fusion.review.checkpoint import build_network, save_reviewer
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import write_synthetic_cache
from fusion.review.together import combinations_of, save_together
from fusion.task import Slot, Task
from fusion.types import DeviceOpinion

SIZE = ReviewerSize(
    hidden=32, layers=1, heads=2, mlp=32, vision_hidden=16, vision_layers=1, vision_heads=2, vision_mlp=16, projector=16
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ItemCache:
    folder = tmp_path_factory.mktemp("items")
    write_synthetic_cache(folder, Task.load("yard"), synthetic_profile(task="yard"), 48)
    return ItemCache.load(folder)


@pytest.fixture
def folder(cache: ItemCache, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network, tokenizer = build_network(cache.task, cache.layout, SIZE)
    save_reviewer(tmp_path / "reviewer", cache.task, network, tokenizer, [cache.profile])
    return tmp_path / "reviewer"


def with_truth(cache: ItemCache, truth: np.ndarray) -> ItemCache:
    return ItemCache(cache.task, cache.layout, cache.profile, {**cache.columns, "truth": truth})


def test_a_reviewer_that_is_right_where_the_device_is_not(cache: ItemCache, folder: Path, tmp_path: Path) -> None:
    """Truth is set to what the reviewer says, so that every figure is known."""
    reviewer = MiniReviewer.load(str(folder))
    truth = np.stack([table.argmax(1) for table in predict(reviewer, cache, pixels=False)], 1)
    perfect = with_truth(cache, truth)
    sent = np.arange(len(cache)) % 3 > 0
    report = evaluate_reviewer(reviewer, perfect, tmp_path / "out", sent=sent, floor=0.0)
    part = report["escalated"]
    assert part["items"] == 32
    assert part["scenes"] == 12
    assert part["methods"]["reviewer"]["verdict"]["value"] == 1.0
    device = part["methods"]["device, fused heads"]["verdict"]["value"]
    assert device < 0.5
    difference = part["differences"]["reviewer minus device, fused heads"]
    assert difference["value"] == pytest.approx(1.0 - device)
    assert difference["low"] > 0
    assert part["asked_back"] == 0.0
    assert json.loads((tmp_path / "out/reviewer.json").read_text())["escalated"] == part
    assert "| reviewer | 1.000 [1.000, 1.000] |" in (tmp_path / "out/reviewer.md").read_text()


def test_pixels_are_read_only_where_unsure(cache: ItemCache, folder: Path, tmp_path: Path) -> None:
    reviewer = MiniReviewer.load(str(folder))
    plain, pixels = (predict(reviewer, cache, pixels=p) for p in (False, True))
    confidence = np.min([table.max(1) for table in plain], axis=0)
    floor = float(np.median(confidence))
    unsure = confidence < floor
    truth = np.stack([np.where(unsure, b.argmax(1), a.argmax(1)) for a, b in zip(plain, pixels, strict=True)], 1)
    report = evaluate_reviewer(reviewer, with_truth(cache, truth), tmp_path, floor=floor)
    assert report["all_items"]["asked_back"] == pytest.approx(unsure.mean())
    assert report["all_items"]["methods"]["reviewer, pixels where uncertain"]["verdict"]["value"] == 1.0


def test_pixels_are_asked_for_by_the_answer_that_is_given(cache: ItemCache, folder: Path, tmp_path: Path) -> None:
    """Where answers must go together, a slot's answer need not be its most probable one."""
    allowed = combinations_of(cache.columns["truth"][:3])
    save_together(folder, cache.task, allowed)
    reviewer = MiniReviewer.load(str(folder))
    plain = predict(reviewer, cache, pixels=False)
    rows = np.arange(len(cache))
    given = reviewer.choose(plain)
    told = np.stack([table[rows, given[:, i]] for i, table in enumerate(plain)], 1)
    most = np.min([table.max(1) for table in plain], axis=0)
    floor = float(np.median(told.min(1)))
    assert (told.min(1) < floor).mean() > (most < floor).mean()
    report = evaluate_reviewer(reviewer, cache, tmp_path, floor=floor)["all_items"]
    assert report["asked_back"] == pytest.approx((told.min(1) < floor).mean())
    report = evaluate_reviewer(reviewer, with_truth(cache, given), tmp_path, floor=0.0)["all_items"]
    assert list(report["ece"].values()) == pytest.approx(list(1 - told.mean(0)))


def test_calibration_does_not_change_answers_and_mends_confidence(cache: ItemCache, folder: Path) -> None:
    before = predict(MiniReviewer.load(str(folder)), cache, pixels=False)
    facts = calibrate_reviewer(folder, cache)
    after = predict(MiniReviewer.load(str(folder)), cache, pixels=False)
    for index, slot in enumerate(cache.task.slots):
        np.testing.assert_array_equal(before[index].argmax(1), after[index].argmax(1))
        assert facts["slots"][slot.name]["nll"] <= facts["slots"][slot.name]["nll_before"] + 1e-9
    again = calibrate_reviewer(folder, cache)
    np.testing.assert_allclose(again["temperatures"], facts["temperatures"], rtol=1e-3)


def test_screening_rule() -> None:
    def rows(**columns: list) -> ItemCache:
        return ItemCache(None, None, None, {name: np.array(values, np.float32) for name, values in columns.items()})

    sure, torn = [0.9, 0.05, 0.05], [0.5, 0.45, 0.05]
    fused = rows(
        class_scores=[[0.9, 0.0]] * 5 + [[0.0, 0.9]],
        label_scores=[sure, torn, sure, sure, [0.05, 0.05, 0.9], sure],
        condition_scores=[[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.9, 0.1]],
        asked_score=[0, 0, 0, 0.8, 0, 0],
    )
    assert escalated(fused).tolist() == [False, True, True, True, True, True]  # the fifth: sure of nothing, against 0.9
    assert escalated_rows(fused.columns, disagree_above=0.95).tolist() == [False, True, True, True, False, False]
    bare = rows(
        class_scores=[[0.9, 0.1], [0.5, 0.1], [0.1, 0.1]],
        label_scores=[[0, 0, 0]] * 3,
        condition_scores=[[]] * 3,
        asked_score=[0] * 3,
    )
    assert escalated(bare).tolist() == [False, True, False]


def test_threshold_is_the_best_on_the_items(cache: ItemCache) -> None:
    scores = cache.columns["class_scores"]
    truth = cache.columns["truth"].copy()
    there = scores.max(1) > 0.4
    truth[:, 0] = np.where(there, scores.argmax(1), 6)
    truth[:, 1:] = 0
    threshold = best_threshold(with_truth(cache, truth), "ok")
    assert scores.max(1)[~there].max() < threshold <= scores.max(1)[there].min() + 0.03


def test_the_devices_answers() -> None:
    yard, pcb = Task.load("yard"), Task.load("pcb")
    opinion = DeviceOpinion({"drum": 0.8, "nothing": 0.2}, {"ok": 0.1, "leaking": 0.9}, 0.7)
    assert device_answers(yard, opinion) == {
        "object": "drum",
        "condition": "leaking",
        "asked": "yes",
        "action": "contain",
    }
    nothing = DeviceOpinion({"drum": 0.2, "nothing": 0.8}, {"leaking": 0.9}, 0.7)
    assert device_answers(yard, nothing) == {"object": "nothing", "condition": "ok", "asked": "no", "action": "none"}
    assert device_answers(pcb, DeviceOpinion()) == {}
    assert detector_answers(pcb, {"open": 0.3, "spur": 0.6}, threshold=0.5) == {"defect": "real", "type": "spur"}
    assert detector_answers(pcb, {"open": 0.3, "spur": 0.4}, threshold=0.5) == {"defect": "false-alarm", "type": "none"}
    assert detector_answers(yard, {"person": 0.9}) == {
        "object": "person",
        "condition": "ok",
        "asked": "no",
        "action": "none",
    }
    told = detector_answers(yard, {"drum": 0.9}, condition_scores={"ok": 0.2, "leaking": 0.8})
    assert (told["condition"], told["action"]) == ("leaking", "contain")
    assert detector_answers(yard, {"drum": 0.9}, condition_scores={"ok": 0.0, "leaking": 0.0})["condition"] == "ok"
    odd = yard.model_copy(update={"slots": (Slot(name="mood", question="?", options=("a", "b")),)})
    with pytest.raises(ConfigError, match="mood"):
        detector_answers(odd, {"drum": 1.0})


def test_items_of_another_trunk_or_none_sent_are_refused(cache: ItemCache, folder: Path, tmp_path: Path) -> None:
    reviewer = MiniReviewer.load(str(folder))
    other = synthetic_profile(task="yard", channels=(24, 32, 16))
    with pytest.raises(InputError, match="does not read items"):
        evaluate_reviewer(reviewer, ItemCache(cache.task, cache.layout, other, cache.columns), tmp_path)
    with pytest.raises(InputError, match="no item was escalated"):
        evaluate_reviewer(reviewer, cache, tmp_path, sent=np.zeros(len(cache), np.bool_))
