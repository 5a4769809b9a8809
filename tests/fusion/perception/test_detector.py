from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.clock import ManualClock
from fusion.codec.synthetic import synthetic_profile
from fusion.engines import load_engine
from fusion.errors import ModelError
from fusion.perception import DetectorStage, crop_pixels
from fusion.perception.evidence import cut_out
from fusion.types import Box2D, Image


@dataclass
class ScriptedEngine:
    """Answers with what it was given, and takes 7 ms of a manual clock."""

    outputs: dict[str, np.ndarray]
    clock: ManualClock = field(default_factory=ManualClock)
    name: str = "scripted"
    inputs: dict[str, tuple[int | str, ...]] = field(default_factory=lambda: {"images": (1, 3, 96, 128)})
    seen: list[np.ndarray] = field(default_factory=list)

    def run(self, inputs):
        self.seen.append(inputs["images"])
        self.clock.advance(7_000_000)
        return self.outputs


def scripted(profile, boxes, scores, **options):
    """A stage whose detector tells `boxes` (n, 4) centre and size with class `scores` (n, 3) in its first anchors."""
    anchors = sum(h * w for h, w in (profile.map_size(i) for i in range(3)))
    predictions = np.zeros((1, 7, anchors), np.float32)
    predictions[0, :4, : len(boxes)] = np.array(boxes, np.float32).T
    predictions[0, 4:, : len(boxes)] = np.array(scores, np.float32).T
    outputs = {"predictions": predictions}
    for index, level in enumerate(profile.levels):
        outputs[level.name] = np.zeros((1, level.channels, *profile.map_size(index)), np.int8)
    return ScriptedEngine(outputs, **options)


def blank(height=96, width=128):
    return Image(np.zeros((height, width, 3), np.uint8))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_real_graph_finds_squares_in_a_larger_frame(backend, graph, task, profile):
    stage = DetectorStage(load_engine(graph, backend=backend, threads=1, precision="f32"), task, profile)
    frame = np.zeros((384, 512, 3), np.uint8)
    frame[96:128, 64:96] = (255, 0, 0)  # one cell of the finest level after shrinking by 4
    frame[256:384, 384:512] = (0, 0, 255)
    result = stage.run(Image(frame))
    assert (result.placement.scale, result.placement.dx, result.placement.dy) == (0.25, 0.0, 0.0)
    red = next(d for d in result.detections if d.label == "red")
    assert red.score == pytest.approx(1.0, abs=1e-3)
    assert red.class_scores == pytest.approx([1, 0, 0], abs=1e-3)
    assert result.placement.to_frame(red.box) == Box2D(32, 64, 128, 160)
    assert {d.label for d in result.detections} == {"red", "blue"}
    assert [m.shape for m in result.maps] == [(24, 12, 16), (32, 6, 8), (32, 3, 4)]
    assert all(m.dtype == np.int8 for m in result.maps)
    assert result.maps[0][0, 3, 2] == 10  # red's channel in the red square's cell
    assert result.maps[2][2, 2, 3] == 10  # blue's channel where the blue square fills the coarsest cell
    assert [s.shape for s in result.cell_scores] == [(12, 16), (6, 8), (3, 4)]
    assert np.unravel_index(result.cell_scores[0].argmax(), (12, 16)) == (3, 2)
    assert result.cell_scores[1][1, 1] == pytest.approx(0.25, abs=1e-3)


def test_of_one_class_the_best_stays_and_other_classes_before_it_too(task, profile):
    boxes = [[40, 40, 20, 20], [42, 40, 20, 20], [46, 44, 20, 20], [70, 40, 20, 20], [41, 40, 20, 20]]
    scores = [[0.8, 0, 0], [0.9, 0, 0], [0, 0.7, 0], [0.6, 0, 0], [0.04, 0, 0]]
    result = DetectorStage(scripted(profile, boxes, scores), task, profile).run(blank())
    assert [(d.label, round(d.score, 2)) for d in result.detections] == [("red", 0.9), ("green", 0.7), ("red", 0.6)]
    assert result.detections[0].box == Box2D(32, 30, 52, 50)


def test_two_classes_in_one_place_are_one_thing(task, profile):
    boxes, scores = [[40, 40, 20, 20], [41, 41, 20, 20]], [[0.9, 0, 0], [0, 0.8, 0]]  # IoU 0.82
    engine = scripted(profile, boxes, scores)
    assert [d.label for d in DetectorStage(engine, task, profile).run(blank()).detections] == ["red"]
    assert len(DetectorStage(engine, task, profile, across=0.9).run(blank()).detections) == 2


def test_conditions_are_told_as_shares_and_checked(task, profile):
    told = task.model_copy(update={"conditions": ("ok", "dented")})
    engine = scripted(profile, [[40, 40, 20, 20]], [[0.9, 0, 0]])
    anchors = engine.outputs["predictions"].shape[2]
    engine.outputs["conditions"] = np.zeros((1, 2, anchors), np.float32)
    engine.outputs["conditions"][0, :, 0] = 0.2, 0.6
    (found,) = DetectorStage(engine, told, profile).run(blank()).detections
    assert found.condition_scores == pytest.approx([0.25, 0.75])
    with pytest.raises(ModelError, match="conditions"):
        DetectorStage(engine, task, profile).run(blank())
    del engine.outputs["conditions"]
    assert DetectorStage(engine, told, profile).run(blank()).detections[0].condition_scores.shape == (0,)


def test_overlap_at_the_limit_stays(task, profile):
    boxes, scores = [[40, 40, 20, 20], [45, 40, 20, 20]], [[0.9, 0, 0], [0.8, 0, 0]]  # IoU 300 / 500
    engine = scripted(profile, boxes, scores)
    assert len(DetectorStage(engine, task, profile, iou=0.6).run(blank()).detections) == 2
    assert len(DetectorStage(engine, task, profile, iou=0.59).run(blank()).detections) == 1


def test_suppression_agrees_with_the_textbook(task, profile):
    rng = np.random.default_rng(4)
    boxes = np.concatenate([rng.uniform(10, 90, (150, 2)), rng.uniform(8, 40, (150, 2))], axis=1)
    scores = rng.uniform(0, 1, (150, 3)).astype(np.float32) ** 4
    found = DetectorStage(scripted(profile, boxes, scores), task, profile, max_detections=1000).run(blank()).detections
    corners = np.clip(np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2]), 0, [128, 96] * 2)
    kept: list[tuple[int, Box2D]] = []
    for i in np.argsort(-scores.max(1)):
        if scores[i].max() < 0.05:
            continue
        label, box = int(scores[i].argmax()), Box2D(*corners[i])
        if all(box.iou(b) <= (0.5 if label == other else 0.7) for other, b in kept):
            kept.append((label, box))
    assert [(task.classes.index(d.label), round(d.box.x1, 2)) for d in found] == [(k, round(b.x1, 2)) for k, b in kept]
    assert len(found) > 20


def test_boxes_are_clipped_and_what_is_left_of_nothing_is_dropped(task, profile):
    nan, inf = float("nan"), float("inf")
    boxes = [[0, 0, 40, 40], [300, 300, 20, 20], [50, 50, -4, 10], [nan, 5, 5, 5], [50, 50, inf, inf]]
    result = DetectorStage(scripted(profile, boxes, [[0.9, 0, 0]] * 5), task, profile).run(blank())
    assert [d.box for d in result.detections] == [Box2D(0, 0, 20, 20)]


def test_what_lies_in_the_padding_is_dropped_and_what_reaches_into_it_is_cut(task, profile):
    boxes = [[64, 8, 30, 12], [64, 14, 20, 20], [64, 94, 10, 4], [64, 11, 8, 10]]
    image = blank(128, 256)  # half as large, it takes rows 16 to 80 of 96
    result = DetectorStage(scripted(profile, boxes, [[0.9, 0, 0]] * 4), task, profile).run(image)
    assert [d.box for d in result.detections] == [Box2D(54, 16, 74, 24)]
    assert crop_pixels(image, result.placement, result.detections[0].box).area == Box2D(96, 0, 160, 64)


@given(
    st.tuples(*[st.floats(-20, 160, width=32)] * 2, *[st.floats(0, 80, width=32)] * 2),
    st.integers(1, 400),
    st.integers(1, 400),
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_told_shows_some_of_the_frame(task, profile, box, height, width):
    image = blank(height, width)
    result = DetectorStage(scripted(profile, [box], [[0.9, 0, 0]]), task, profile).run(image)
    for found in result.detections:
        cut_out(image, result.placement, found.box, 16)
        seen = result.placement.to_frame(found.box)
        assert seen.x1 > -1e-3
        assert seen.y1 > -1e-3
        assert seen.x2 < width * (1 + 1e-6)
        assert seen.y2 < height * (1 + 1e-6)


@pytest.mark.parametrize(("height", "width"), [(160, 213), (161, 213), (7, 1000)])
def test_a_box_at_a_border_that_falls_between_pixels_shows_some_of_the_frame(task, profile, height, width):
    image = blank(height, width)
    scale = min(128 / width, 96 / height)
    right, bottom = (
        (128 - round(width * scale)) // 2 + width * scale,
        (96 - round(height * scale)) // 2 + height * scale,
    )
    for off in np.linspace(-1e-5, 1e-5, 21):
        boxes = [[right + off + 2, 48, 4, 2], [64, bottom + off + 2, 2, 4]]
        result = DetectorStage(scripted(profile, boxes, [[0.9, 0, 0]] * 2), task, profile).run(image)
        for found in result.detections:
            cut_out(image, result.placement, found.box, 16)


def test_at_most_so_many_detections_the_best_first(task, profile):
    rng = np.random.default_rng(2)
    scores = rng.uniform(0.1, 1, (240, 1)) * [[1.0, 0, 0]]
    boxes = [[4 + 8 * (i % 15), 4 + 6 * (i // 15), 4, 4] for i in range(240)]
    found = DetectorStage(scripted(profile, boxes, scores), task, profile).run(blank()).detections
    assert len(found) == 32
    assert [d.score for d in found] == pytest.approx(np.sort(scores[:, 0])[::-1][:32])


def test_only_the_engine_is_timed_and_the_picture_is_letterboxed(task, profile):
    engine = scripted(profile, [], np.zeros((0, 3)))
    result = DetectorStage(engine, task, profile, clock=engine.clock).run(blank(96, 64))
    assert result.engine_ns == 7_000_000
    assert result.detections == ()
    planes = engine.seen[0]
    assert planes.shape == (1, 3, 96, 128)
    assert planes[0, 0, 0, 0] == pytest.approx(114 / 255)
    assert planes[0, 0, 50, 64] == 0


def test_a_graph_of_another_task_or_trunk_is_named(graph, task, profile):
    engine = load_engine(graph, backend="onnxruntime", threads=1)
    other = task.model_copy(update={"classes": ("red", "green")})
    with pytest.raises(ModelError, match=r"'predictions' has shape \(1, 7, 252\).*need \(1, 6, 252\)"):
        DetectorStage(engine, other, profile).run(blank())
    narrow = synthetic_profile(task="squares", image_width=128, image_height=96, channels=(8, 32, 32))
    with pytest.raises(ModelError, match="'p3' has shape"):
        DetectorStage(engine, task, narrow).run(blank())
    missing = scripted(profile, [], np.zeros((0, 3)))
    del missing.outputs["p4"]
    with pytest.raises(ModelError, match="'p4' has shape None"):
        DetectorStage(missing, task, profile).run(blank())
    with pytest.raises(ModelError, match="takes inputs"):
        DetectorStage(ScriptedEngine({}, inputs={"x": (1,)}), task, profile)
