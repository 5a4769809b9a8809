"""The nuScenes metric: the devkit's figures, the same figures by plain loops, and what holds for any detector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.evaluation.nuscenes import evaluate_nuscenes
from fusion.evaluation.nuscenes_boxes import CLASSES, BikeRacks, NuScenesBoxes
from fusion.evaluation.nuscenes_files import read_nuscenes_boxes
from fusion.evaluation.nuscenes_filter import CLASS_RANGE_M


def same(ours: Any, expected: Any) -> int:
    """Compare two trees of figures; how many figures there were."""
    if isinstance(expected, dict):
        return sum(same(ours[key], value) for key, value in expected.items())
    if expected is None or np.isnan(expected):
        assert ours is None
    else:
        assert ours == pytest.approx(expected, abs=1e-9)
    return 1


def road(samples: int = 3, each: int = 2) -> NuScenesBoxes:
    """Boxes of every class, none near another, all well in range."""
    label = np.tile(np.repeat(np.arange(len(CLASSES)), each), samples)
    count = len(label)
    spot = np.tile(np.arange(count // samples), samples)
    away = np.column_stack([5.0 * (spot % 5) - 10, 5.0 * (spot // 5) - 10, np.zeros(count)])
    return NuScenesBoxes(
        tuple(f"s{index}" for index in range(samples)),
        np.repeat(np.arange(samples), count // samples),
        label,
        np.full(count, 6),
        away + np.array([300, 900, 1]),
        np.tile([1.8, 4.2, 1.5], (count, 1)),
        np.tile([0.8, 0, 0, 0.6], (count, 1)),
        np.tile([1.0, -2.0], (count, 1)),
        away,
        np.full(count, 5.0),
        np.full(count, np.nan),
    )


def found(truth: NuScenesBoxes, seed: int = 0) -> NuScenesBoxes:
    scores = np.random.default_rng(seed).uniform(0.5, 1, len(truth))
    return replace(truth, score=scores, points=np.full(len(truth), -1.0))


@pytest.mark.parametrize("name", ["filtered", "unfiltered"])
def test_official_figures(nuscenes_oracle: Path, name: str) -> None:
    expected = json.loads((nuscenes_oracle / "expected.json").read_text())[name]
    truth = read_nuscenes_boxes(nuscenes_oracle / "gt.json")
    predictions = read_nuscenes_boxes(nuscenes_oracle / "pred.json")
    ours = evaluate_nuscenes(truth, predictions, filtered=name == "filtered").to_dict()
    expected["counts"].pop("gt_within_class_range", None)
    assert same(ours, expected) == 176


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_plain_loops(loops, seed: int) -> None:
    """With equal scores, unknown velocities and attributes, tilted boxes, duplicates and confused classes."""
    truth, predictions = loops.made_up.nuscenes_samples(1 + 8 * seed, seed)
    expected = loops.nuscenes.evaluate(loops.nuscenes.samples(truth), loops.nuscenes.samples(predictions))
    same(evaluate_nuscenes(truth, predictions).to_dict(), expected)


def test_what_is_true_is_worth_everything() -> None:
    truth = road()
    metrics = evaluate_nuscenes(truth, found(truth))
    assert metrics.mean_ap == pytest.approx(1)
    assert metrics.nd_score == pytest.approx(1)
    assert metrics.tp_errors == pytest.approx(dict.fromkeys(metrics.tp_errors, 0), abs=1e-12)
    assert {c.name: c.max_recall[0.5] for c in metrics.classes} == dict.fromkeys(CLASSES, 1.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1), label=st.integers(0, len(CLASSES) - 1))
def test_a_false_positive_never_helps(loops, seed: int, share: float, label: int) -> None:
    """Wherever its score lies below the best one."""
    truth, predictions = loops.made_up.nuscenes_samples(6, seed)
    extra = predictions.where(np.array([0]))
    score = share * predictions.score.max()
    extra = replace(extra, label=np.array([label]), translation=np.full((1, 3), 1e5), score=np.array([score]))
    columns = {
        name: np.concatenate([getattr(extra, name), getattr(predictions, name)])
        for name in predictions.__slots__
        if name != "samples"
    }
    before = evaluate_nuscenes(truth, predictions)
    after = evaluate_nuscenes(truth, replace(predictions, **columns))
    for old, new in zip(before.classes, after.classes, strict=True):
        assert all(new.ap[distance] <= old.ap[distance] + 1e-12 for distance in old.ap)


def test_errors_are_what_was_put_in() -> None:
    truth = road()
    worse = found(truth)
    quarter = np.array([np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)])  # 45 degrees
    turned = np.column_stack(
        [
            worse.rotation[:, 0] * quarter[0] - worse.rotation[:, 3] * quarter[3],
            np.zeros((len(worse), 2)),
            worse.rotation[:, 0] * quarter[3] + worse.rotation[:, 3] * quarter[0],
        ]
    )
    worse = replace(
        worse,
        translation=worse.translation + np.array([0.36, 0.48, 9]),
        size=worse.size * [1, 1, 0.5],
        rotation=3 * turned,
        velocity=worse.velocity + np.array([0.6, 0.8]),
        attribute=np.full(len(worse), 7),
    )
    metrics = evaluate_nuscenes(truth, worse)
    expected = {"trans_err": 0.6, "scale_err": 0.5, "orient_err": np.pi / 4, "vel_err": 1, "attr_err": 1}
    assert metrics.tp_errors == pytest.approx(expected)
    assert metrics.tp_scores == pytest.approx({e: max(0, 1 - value) for e, value in expected.items()}, abs=1e-12)
    assert metrics.classes[0].ap[0.5] == 0
    assert metrics.classes[0].ap[1.0] == pytest.approx(1)


def test_turned_about_hurts_all_but_barriers() -> None:
    truth = road()
    turned = replace(found(truth), rotation=truth.rotation[:, [3, 1, 2, 0]] * [-1, 1, 1, 1])
    errors = {c.name: c.errors["orient_err"] for c in evaluate_nuscenes(truth, turned).classes}
    assert errors["car"] == pytest.approx(np.pi)
    assert errors["barrier"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(errors["traffic_cone"])


def test_range_and_points_are_filters() -> None:
    truth = road()
    label = truth.label
    limit = np.array([CLASS_RANGE_M[name] for name in CLASSES])[label]
    edge = np.column_stack([limit, np.zeros(len(truth)), np.zeros(len(truth))])
    for away, kept in ((edge - 0.01, True), (edge, False)):
        far = replace(truth, ego_translation=away)
        metrics = evaluate_nuscenes(far, found(truth))
        assert all(bool(c.truths) == kept for c in metrics.classes)
    assert all(c.truths == 0 for c in evaluate_nuscenes(replace(truth, points=truth.points * 0), found(truth)).classes)
    unfiltered = evaluate_nuscenes(replace(truth, points=truth.points * 0), found(truth), filtered=False)
    assert unfiltered.mean_ap == pytest.approx(1)


def test_a_class_without_truth_counts_as_the_devkit_counts_it() -> None:
    truth = road()
    cars = truth.where(truth.label == 0)
    metrics = evaluate_nuscenes(cars, found(cars))
    assert metrics.mean_ap == pytest.approx(0.1)
    assert metrics.tp_errors["trans_err"] == pytest.approx(0.9)
    assert metrics.tp_errors["vel_err"] == pytest.approx(7 / 8)


def test_where_the_vehicle_is_comes_from_the_truth_or_from_the_caller() -> None:
    truth = road()
    silent = replace(found(truth), ego_translation=np.full((len(truth), 3), np.nan))
    assert evaluate_nuscenes(truth, silent).to_dict() == evaluate_nuscenes(truth, found(truth)).to_dict()
    unseen = truth.where(truth.sample != 1)
    with pytest.raises(InputError, match=r"sample s1: neither the predictions nor the truth tell where the vehicle is"):
        evaluate_nuscenes(unseen, silent)
    told = evaluate_nuscenes(unseen, silent, ego_positions={"s1": np.array([300.0, 900, 1])})
    assert sum(c.predictions for c in told.classes) == len(silent)
    far = evaluate_nuscenes(unseen, silent, ego_positions={"s1": np.array([0.0, 900, 1])})
    assert sum(c.predictions for c in far.classes) == len(silent) - 20


@pytest.mark.parametrize("claimed", [0.0, 1e4, np.nan])
def test_a_submission_does_not_say_how_far_its_boxes_are(claimed: float) -> None:
    """The devkit overwrites `ego_translation`, which is `[0, 0, 0]` where nobody set it."""
    truth = road()
    far = found(truth, seed=1)
    far = replace(far, translation=far.translation + np.array([500, 0, 0]), score=far.score + 1)
    both = {
        name: np.concatenate([getattr(found(truth), name), getattr(far, name)])
        for name in truth.__slots__
        if name != "samples"
    }
    predictions = replace(far, **both)
    predictions = predictions.where(np.argsort(predictions.sample, kind="stable"))
    claims = replace(predictions, ego_translation=np.full((len(predictions), 3), claimed))
    metrics = evaluate_nuscenes(truth, claims)
    assert sum(c.predictions for c in metrics.classes) == len(truth)
    assert metrics.mean_ap == pytest.approx(1)


def test_a_submissions_own_distance_counts_where_nothing_else_tells() -> None:
    truth = road()
    unseen, claims = truth.where(truth.sample != 1), found(truth)
    far = replace(claims, ego_translation=np.where((claims.sample == 1)[:, None], 1e4, claims.ego_translation))
    counted = [sum(c.predictions for c in evaluate_nuscenes(unseen, p).classes) for p in (claims, far)]
    assert counted == [60, 40]


def test_two_wheelers_in_racks_are_left_out() -> None:
    truth = road()
    bicycle = int(np.flatnonzero(truth.label == CLASSES.index("bicycle"))[0])
    centre, quaternion = truth.translation[bicycle], np.array([np.cos(0.3), 0, 0, np.sin(0.3)]) * 2
    along = np.array([np.cos(0.6), np.sin(0.6), 0])
    for shift, inside in ((1.99, True), (2.01, False)):  # the rack is 4 m long along its x axis
        rack = BikeRacks(("s0",), (centre + shift * along)[None], np.array([[0.5, 4, 1]]), quaternion[None])
        metrics = evaluate_nuscenes(truth, found(truth), bike_racks=rack)
        counts = {c.name: (c.truths, c.predictions) for c in metrics.classes}
        assert counts["bicycle"] == ((5, 5) if inside else (6, 6))
        assert counts["car"] == (6, 6)
    everywhere = BikeRacks(("s0", "elsewhere"), np.tile(centre, (2, 1)), np.full((2, 3), 99.0), np.eye(4)[:2])
    counts = {c.name: c.truths for c in evaluate_nuscenes(truth, found(truth), bike_racks=everywhere).classes}
    assert counts == {name: 4 if name in {"bicycle", "motorcycle"} else 6 for name in CLASSES}


def test_what_cannot_be_compared_is_refused() -> None:
    truth = road()
    with pytest.raises(InputError, match="60 predictions have no 'detection_score', the first in sample s0"):
        evaluate_nuscenes(truth, truth)
    with pytest.raises(InputError, match="1 of 3 samples, s2 among them, are not in the predictions"):
        evaluate_nuscenes(truth, found(road(2)))
    with pytest.raises(InputError, match="1 of 3 samples, s2 among them, are not in the truth"):
        evaluate_nuscenes(road(2), found(truth))
    with pytest.raises(InputError, match="sample s0 has 510 predictions; the benchmark takes 500"):
        evaluate_nuscenes(road(1, 51), found(road(1, 51)))
