"""The KITTI metric: the official figures, the same figures by plain loops, and what holds for any detector."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.evaluation.kitti import CLASSES, DIFFICULTIES, evaluate_kitti, recall_thresholds
from fusion.evaluation.kitti_labels import KittiObjects, read_kitti_folders, read_kitti_labels

LABEL = [0.0, 0, 0.3, 500.0, 150, 600, 250, 1.5, 1.6, 4.0, 1.0, 1.7, 12.0, 0.4]


def row(place: int, **changes: float) -> list[float]:
    """A label's numbers, at its own place in the picture and on the road."""
    values = list(LABEL)
    values[3], values[5], values[10] = 200.0 * place, 200.0 * place + 100, 8.0 * place
    names = {"truncated": 0, "occluded": 1, "alpha": 2, "top": 4, "bottom": 6, "height": 7, "y": 11}
    for name, value in changes.items():
        values[names[name]] = value
    return values


def objects(*named: tuple[str, list[float]]) -> KittiObjects:
    return KittiObjects.from_rows([name for name, _ in named], [values for _, values in named])


def crowd(frames: int = 21, **changes: float) -> list[KittiObjects]:
    """So many frames with two of every class each, none near another."""
    return [
        objects(*((name, row(2 * place + side, **changes)) for place, name in enumerate(CLASSES) for side in (0, 1)))
        for _ in range(frames)
    ]


def scored(labels: list[KittiObjects], seed: int = 0) -> list[KittiObjects]:
    rng = np.random.default_rng(seed)
    return [replace(frame, scores=rng.uniform(0.5, 1, len(frame))) for frame in labels]


def test_official_figures(kitti_oracle: Path) -> None:
    expected = json.loads((kitti_oracle / "expected.json").read_text())
    metrics = evaluate_kitti(*read_kitti_folders(kitti_oracle / "gt", kitti_oracle / "det"))
    ours = metrics.to_dict()
    assert ours["frames"] == expected["frames"]
    assert ours["num_valid_gt"] == expected["num_valid_gt"]
    assert ours["min_overlap"] == expected["min_overlap"]
    compared = 0
    for value in metrics.values:
        for protocol, figure in (("R11", value.r11), ("R40", value.r40)):
            figures = expected["ap"][value.overlaps][protocol][value.class_name][value.metric]
            assert figure == pytest.approx(figures[value.difficulty], abs=1e-9)
            assert ours["ap"][value.overlaps][protocol][value.class_name][value.metric][value.difficulty] == figure
            compared += 1
    assert compared == 144


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_plain_loops(loops, seed: int) -> None:
    """On crowded frames with equal scores, coinciding boxes, neutral labels and unlabelled regions."""
    labels, detections = loops.made_up.kitti_frames(50 + 20 * seed, seed)
    expected = loops.kitti.evaluate(labels, detections)
    for value in evaluate_kitti(labels, detections).values:
        figures = expected[value.class_name, value.difficulty, value.overlaps, value.metric]
        assert (value.r11 or 0, value.r40 or 0) == pytest.approx(figures, abs=1e-9)


def test_what_is_labelled_is_worth_100() -> None:
    """Also from above and in space, where the official evaluator loses boxes that coincide."""
    labels = crowd()
    for value in evaluate_kitti(labels, scored(labels)).values:
        assert value.labels == 42
        assert (value.r11, value.r40) == pytest.approx((100, 100))


def test_labels_against_themselves(kitti_oracle: Path) -> None:
    labels, _ = read_kitti_folders(kitti_oracle / "gt", kitti_oracle / "det")
    metrics = evaluate_kitti(labels, scored(labels))
    assert min(v.r40 for v in metrics.values if v.metric in {"bev", "3d"}) == pytest.approx(100)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_false_positive_never_helps(loops, seed: int, share: float) -> None:
    """Wherever its score lies below the best one."""
    labels, detections = loops.made_up.kitti_frames(30, seed)
    before = evaluate_kitti(labels, detections)
    best = max((float(frame.scores.max()) for frame in detections if len(frame)), default=1.0)
    nowhere = [-1.0, -1, 0, 5000, 100, 5100, 250, 1.5, 1.6, 4.0, 500, 1.7, 12, 0, best * share]
    frame = seed % len(labels)
    for name in CLASSES:
        extra = KittiObjects.from_rows([name], [nowhere])
        more = list(detections)
        more[frame] = KittiObjects.joined([detections[frame], extra])
        for old, new in zip(before.values, evaluate_kitti(labels, more).values, strict=True):
            assert (new.r11 or 0) <= (old.r11 or 0) + 1e-9
            assert (new.r40 or 0) <= (old.r40 or 0) + 1e-9


def test_order_of_frames_does_not_matter(loops) -> None:
    labels, detections = loops.made_up.kitti_frames(40, 3)
    order = np.random.default_rng(0).permutation(40)
    one = evaluate_kitti(labels, detections)
    two = evaluate_kitti([labels[i] for i in order], [detections[i] for i in order])
    assert [v.r40 or 0 for v in one.values] == pytest.approx([v.r40 or 0 for v in two.values], abs=1e-9)


def test_the_rules_of_difficulty() -> None:
    labels = [objects(("Car", row(0, occluded=1)), ("Car", row(1, truncated=0.4)), ("Car", row(2, top=210.0)))] * 20
    counted = {v.difficulty: v.labels for v in evaluate_kitti(labels, scored(labels)).values if v.class_name == "Car"}
    assert counted == {"easy": 0, "moderate": 20 + 20, "hard": 20 + 20 + 20}
    assert DIFFICULTIES["easy"].min_height == 40, "a label of exactly 40 pixels (210 to 250) is not taller"


def test_vans_and_regions_excuse() -> None:
    """A van taken for a car, and a pedestrian reported where nobody labelled, are no false positives in the image."""
    labels, found = crowd(), scored(crowd())
    excused = [replace(objects(("Car", row(8)), ("Pedestrian", row(9))), scores=np.ones(2))] * 21
    more = [KittiObjects.joined([frame, extra]) for frame, extra in zip(found, excused, strict=True)]
    neutral = [KittiObjects.joined([frame, objects(("Van", row(8)), ("DontCare", row(9)))]) for frame in labels]
    plain, helped = evaluate_kitti(labels, more), evaluate_kitti(neutral, more)
    for name, metric, expected in (("Car", "bbox", 100), ("Car", "3d", 100), ("Pedestrian", "bbox", 100)):
        assert plain.value(name, metric).r40 < 80
        assert helped.value(name, metric).r40 == pytest.approx(expected)
    assert helped.value("Pedestrian", "3d").r40 < 80, "such regions are in the image only"


def test_orientation_turned_about_is_worth_nothing() -> None:
    labels = crowd()
    turned = [replace(frame, alpha=frame.alpha + np.pi) for frame in scored(labels)]
    metrics = evaluate_kitti(labels, turned)
    assert metrics.value("Car", "bbox").r40 == pytest.approx(100)
    assert metrics.value("Car", "aos").r40 == pytest.approx(0)


def test_what_has_no_meaning_is_none() -> None:
    labels = [objects(("Car", row(0)))] * 50
    flat = [replace(f, dimensions=f.dimensions * 0 - 1, alpha=f.alpha * 0 - 10) for f in scored(labels)]
    metrics = evaluate_kitti(labels, flat)
    assert metrics.value("Car", "bbox").r40 == pytest.approx(100)
    assert metrics.value("Car", "aos").r40 is None
    assert metrics.value("Car", "3d").r11 is None
    assert metrics.value("Cyclist", "bbox").r40 is None
    assert evaluate_kitti(labels, [objects()] * 50).value("Car", "3d").r40 == 0, "nothing found is no matter of meaning"
    assert evaluate_kitti([], []).value("Car", "bbox").r40 is None
    assert "| Cyclist | bbox | 0.5 | - | - |" in str(metrics)


@pytest.mark.parametrize("count", [1, 12, 40, 41, 200])
def test_few_labels_cannot_reach_100(count: int) -> None:
    """The metric gives every recall position a hit of its own; the table says what that leaves."""
    labels = [objects(("Car", row(0)))] * count
    metrics = evaluate_kitti(labels, scored(labels))
    value = metrics.value("Car", "3d")
    assert value.r40 == pytest.approx(value.highest_r40) == pytest.approx(100 * (min(count, 41) - 1) / 40)
    assert ("a perfect detector reaches R40" in str(metrics)) == (count < 41)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), hits=st.integers(0, 300), missed=st.integers(0, 300))
def test_thresholds_are_the_plain_loop(loops, seed: int, hits: int, missed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 50, hits) / 50
    expected = loops.kitti._thresholds(scores.tolist(), hits + missed)
    assert recall_thresholds(scores, hits + missed).tolist() == expected


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="2 frames of labels, 1 of detections"):
        evaluate_kitti(crowd(2), crowd(1))
    with pytest.raises(InputError, match="'Kar' is none of KITTI's classes"):
        objects(("Kar", row(0)))
    with pytest.raises(InputError, match="alpha of KITTI objects holds a number that is not finite"):
        objects(("Car", row(0, alpha=np.nan)))
    good = objects(("Car", row(0)))
    for column in fields(good):
        if column.name != "names":
            with pytest.raises(InputError, match=f"{column.name} of 1 KITTI objects has shape"):
                replace(good, **{column.name: np.zeros((2, 2))})


LINE = "Car 0.00 0 -1.5 100.0 150.0 200.0 250.0 1.5 1.6 4.0 1.0 1.7 12.0 0.4"


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "000000.txt"
    path.write_text(f"{LINE}\r\n\n{LINE.replace('Car', 'dontcare')}\n")
    read = read_kitti_labels(path, scored=False)
    assert read.names.tolist() == ["Car", "DontCare"]
    assert read.image_boxes[0].tolist() == [100, 150, 200, 250]
    assert read.dimensions[0].tolist() == [1.5, 1.6, 4.0]
    assert read.locations[0].tolist() == [1.0, 1.7, 12.0]
    assert (read.alpha[0], read.rotation_y[0], read.scores[0]) == (-1.5, 0.4, 0.0)
    path.write_text(f"{LINE} 0.75")
    assert read_kitti_labels(path, scored=True).scores.tolist() == [0.75]
    path.write_text("")
    assert len(read_kitti_labels(path, scored=True)) == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINE + " 0.9", "16 columns where a label has 15"),
        ("Car 0 0", "3 columns where a label has 15"),
        (LINE.replace("Car", "Bus"), "'Bus' is none of KITTI's classes"),
        (LINE.replace("1.7", "x"), "could not convert string to float: 'x'"),
        (LINE.replace("1.7", "nan"), "a number that is not finite"),
        (LINE.replace("200.0", "20.0"), "image box 100.0 150.0 20.0 250.0 ends before it begins"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "000007.txt"
    path.write_text(f"{LINE}\n{line}\n")
    with pytest.raises(InputError, match=f"000007.txt:2: .*{said}"):
        read_kitti_labels(path, scored=False)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300) | st.binary(max_size=40).map(lambda noise: LINE.encode() + noise),
    cut=st.integers(0, 100),
    is_scored=st.booleans(),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, cut: int, is_scored: bool) -> None:
    path = tmp_path / "any.txt"
    path.write_bytes(content[: len(content) - cut])
    said = f"{path} is sound"
    try:
        read_kitti_labels(path, scored=is_scored)
    except InputError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said


def test_folders_must_hold_the_same_frames(tmp_path: Path) -> None:
    truth, found = tmp_path / "label_2", tmp_path / "data"
    for folder, frames in ((truth, "abc"), (found, "ac")):
        folder.mkdir()
        for frame in frames:
            (folder / f"{frame}.txt").write_text(LINE + (" 0.5" if folder is found else ""))
    with pytest.raises(InputError, match=r"data: b.txt is missing \(1 of 3 frames are\)"):
        read_kitti_folders(truth, found)
    with pytest.raises(InputError, match=r"label_2: d.txt is missing \(1 of 2 frames are\)"):
        read_kitti_folders(truth, found, ["a", "d"])
    labels, detections = read_kitti_folders(truth, found, ["c", "a"])
    assert [len(frame) for frame in labels + detections] == [1, 1, 1, 1]
    with pytest.raises(InputError, match="nowhere: not a folder"):
        read_kitti_folders(tmp_path / "nowhere", found)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no label file"):
        read_kitti_folders(tmp_path / "empty", tmp_path / "empty")
