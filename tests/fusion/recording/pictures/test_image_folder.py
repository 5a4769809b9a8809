"""Image folders: label forms, bad lines, and the folder as a recording."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.inspect import inspect_recording
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.task import Task
from fusion.types import Box2D, Modality

CLASSES = ("open", "short", "spur")
DEEPPCB = Path(__file__).parents[4] / "../shared/data/deeppcb"


@pytest.fixture
def root(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for number, stem in enumerate(("a", "b", "c")):
        pixels = np.full((100, 200, 3), (10 * number, 100, 200), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{stem}.png"), pixels)
    (tmp_path / "test.txt").write_text("b\na\nc\n")
    return tmp_path


def label(root, text, stem="a"):
    (root / "labels" / f"{stem}.txt").write_text(text)


def folder(root, form=LabelForm.DEEPPCB):
    return ImageFolder(root, form=form, classes=CLASSES)


def test_the_deeppcb_form_counts_types_from_one(root):
    label(root, "10 20 30 40 1\n\n5,6,7,8,3\n")
    boxes = folder(root).load("a").boxes
    assert folder(root).boxes("a") == boxes
    assert [(b.box, b.class_index) for b in boxes] == [(Box2D(10, 20, 30, 40), 0), (Box2D(5, 6, 7, 8), 2)]


def test_the_yolo_form_is_in_shares_of_the_picture(root):
    label(root, "2 0.5 0.5 0.25 0.5\n")
    ((box, index),) = [(b.box, b.class_index) for b in folder(root, LabelForm.YOLO).load("a").boxes]
    assert (box, index) == (Box2D(75, 25, 125, 75), 2)


def test_a_picture_without_a_label_file_has_no_boxes(root):
    assert folder(root).load("a").boxes == ()


def test_pictures_are_rgb_and_keep_their_bytes(root):
    image = folder(root).load("b").image
    assert image.pixels[0, 0].tolist() == [200, 100, 10]
    assert image.encoded == (root / "images" / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("form", "line", "text"),
    [
        (LabelForm.DEEPPCB, "1 2 3 4", "4 numbers where the deeppcb form has 5"),
        (LabelForm.DEEPPCB, "1 2 3 4 5 6", "6 numbers"),
        (LabelForm.DEEPPCB, "1 2 3 4 0", "class 0 is not one of 1..3"),
        (LabelForm.DEEPPCB, "1 2 3 4 4", "class 4 is not one of 1..3"),
        (LabelForm.DEEPPCB, "1 2 3 4 1.5", "class 1.5"),
        (LabelForm.DEEPPCB, "9 2 3 4 1", "empty"),
        (LabelForm.DEEPPCB, "1 2 nan 4 1", "not finite"),
        (LabelForm.DEEPPCB, "1 2 x 4 1", "could not convert"),
        (LabelForm.YOLO, "3 0.5 0.5 0.1 0.1", "class 3 is not one of 0..2"),
        (LabelForm.YOLO, "-1 0.5 0.5 0.1 0.1", "class -1"),
        (LabelForm.YOLO, "0 0.5 0.5 -0.1 -0.1", "empty"),
        (LabelForm.YOLO, "0 0.5 0.5 inf 0.1", "not finite"),
    ],
)
def test_a_bad_line_is_named(root, form, line, text):
    good = "1 2 3 4 1" if form is LabelForm.DEEPPCB else "0 0.5 0.5 0.1 0.1"
    label(root, f"{good}\n{line}\n")
    with pytest.raises(RecordingError, match=text) as caught:
        folder(root, form).load("a")
    assert str(caught.value).startswith(f"{root / 'labels' / 'a.txt'}:2: ")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LabelForm), st.binary(max_size=60))
def test_any_label_file_gives_boxes_or_a_recording_error(root, form, content):
    (root / "labels" / "a.txt").write_bytes(content)
    boxes, problem = (), "a.txt"
    try:
        boxes = folder(root, form).load("a").boxes
    except RecordingError as error:
        problem = str(error)
    assert "a.txt" in problem
    assert all(0 <= b.class_index < 3 and b.box.x2 > b.box.x1 for b in boxes)


def test_missing_parts_are_named(root, tmp_path):
    with pytest.raises(RecordingError, match=r"val.txt: no such split; splits here: test"):
        folder(root).stems("val")
    (root / "empty.txt").write_text("\n")
    with pytest.raises(RecordingError, match="the split is empty"):
        folder(root).stems("empty")
    with pytest.raises(RecordingError, match="no picture named gone"):
        folder(root).load("gone")
    with pytest.raises(RecordingError, match="no picture named nnn"):
        folder(root).load("n" * 999)
    with pytest.raises(RecordingError, match="the split cannot be read"):
        folder(root).stems("s" * 999)
    cv2.imwrite(str(root / "images" / f"{'l' * 251}.png"), np.zeros((10, 10, 3), np.uint8))
    assert folder(root).load("l" * 251).boxes == ()
    (root / "images" / "bad.jpg").write_bytes(b"not a picture")
    with pytest.raises(RecordingError, match=r"bad.jpg: not a picture that can be decoded"):
        folder(root).load("bad")
    with pytest.raises(RecordingError, match="no folder 'images'"):
        ImageFolder(root / "labels", form=LabelForm.YOLO, classes=CLASSES)


def test_a_split_is_a_recording_at_the_tasks_rate(root):
    label(root, "10 20 30 40 1\n5 6 7 8 3\n", "a")
    label(root, "1 2 3 4 2\n", "c")
    reader = open_recording(root, Task.load("pcb"), "test")
    readings = list(reader.readings())
    assert [(c, r.sensor, r.modality, r.capture_time_ns) for c, r in readings] == [
        (1, "line", Modality.CAMERA, 0),
        (2, "line", Modality.CAMERA, 200_000_000),
        (3, "line", Modality.CAMERA, 400_000_000),
    ]
    assert readings[0][1].payload.pixels[0, 0].tolist() == [200, 100, 10], "the split's order is not the folder's"
    assert [(c, r.capture_time_ns) for c, r in reader.readings(2)] == [(3, 400_000_000)]
    assert list(reader.readings(3)) == []
    truths = list(reader.truth())
    assert [t.time_ns for t in truths] == [0, 200_000_000, 400_000_000]
    assert [[(o.track, o.label) for o in t.objects] for t in truths] == [
        [],
        [(1, "open"), (2, "mousebite")],
        [(3, "short")],
    ]
    info = reader.info()
    assert "nominal" in info.notes["times"]
    assert not info.continuous
    assert (info.sensors["line"].count, info.truths, info.rig) == (3, 3, None)
    assert info.sensors["line"].rate_hz == pytest.approx(5)
    assert reader.sizes() == {"line": sum(p.stat().st_size for p in (root / "images").iterdir())}


def test_the_hash_covers_order_pictures_and_labels(root):
    def sha():
        return open_recording(root, Task.load("pcb"), "test").info().content_sha256

    hashes = [sha()]
    label(root, "1 2 3 4 1\n", "a")
    hashes.append(sha())
    (root / "test.txt").write_text("a\nb\nc\n")
    hashes.append(sha())
    cv2.imwrite(str(root / "images" / "a.png"), np.zeros((10, 10, 3), np.uint8))
    hashes.append(sha())
    assert len(set(hashes)) == 4
    assert sha() == hashes[-1]


def test_salvage_goes_on_without_a_listed_picture_that_is_missing(root):
    (root / "test.txt").write_text(f"b\n{'n' * 999}\na\nc\n")
    (root / "images/a.png").unlink()
    label(root, "1 2 3 4\n", "c")
    with pytest.raises(RecordingError, match="no picture named"):
        open_recording(root, Task.load("pcb"), "test").info()
    reader = open_recording(root, Task.load("pcb"), "test", salvage=True)
    info = reader.info()
    assert (info.sensors["line"].count, info.truths) == (1, 1)
    assert "no picture named a" in info.damage
    assert reader.names() == {0: "b.png"}
    assert reader.sizes() == {"line": (root / "images/b.png").stat().st_size}
    assert inspect_recording(root, task=Task.load("pcb"), split="test", salvage=True)


def test_task_and_split_are_asked_for(root):
    with pytest.raises(RecordingError, match="needs a task"):
        open_recording(root)
    with pytest.raises(RecordingError, match="needs a split; splits here: test"):
        open_recording(root, Task.load("pcb"))
    odd = Task.load("pcb").model_copy(update={"labels": Task.load("pcb").labels.model_copy(update={"form": "voc"})})
    with pytest.raises(RecordingError, match="'voc'; known: deeppcb, yolo"):
        open_recording(root, odd, "test")


def test_the_real_deeppcb_test_list_is_read():
    if not DEEPPCB.exists():
        pytest.skip(f"{DEEPPCB} is not here")
    task = Task.load("pcb")
    reader = open_recording(DEEPPCB, task, "test")
    assert reader.info().sensors["line"].count == 350
    _, first = next(reader.readings(349))
    assert first.payload.pixels.shape == (640, 640, 3)
    truths = list(reader.truth())
    assert len(truths) == 350
    boxes = [o for t in truths for o in t.objects]
    assert {o.label for o in boxes} == set(task.classes)
    assert all(0 <= o.box2d.x1 < o.box2d.x2 <= 640 for o in boxes)
