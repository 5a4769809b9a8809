"""COCO data sets as recordings: boxes, crowds, missing pictures, splits, and files that are none."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.task import Task
from fusion.types import Box2D

COCO = Path(__file__).parents[4] / "../shared/data/coco"
DOCUMENT = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 60, "height": 40},
        {"id": 3, "file_name": "a.png", "width": 60, "height": 40},
    ],
    "categories": [{"id": 1, "name": "Person"}, {"id": 90, "name": "traffic light"}],
    "annotations": [
        {"image_id": 3, "category_id": 90, "bbox": [1, 2, 10, 20], "iscrowd": 0},
        {"image_id": 7, "category_id": 1, "bbox": [5.5, 6, 7, 8], "iscrowd": 0},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 30], "iscrowd": 1},
    ],
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.full((40, 60, 3), ord(name[0]), np.uint8))
    write(tmp_path, DOCUMENT)
    return tmp_path


def write(root, document, name="instances.json"):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(document if isinstance(document, str) else json.dumps(document))


def changed(key, index, **values):
    document = json.loads(json.dumps(DOCUMENT))
    document[key][index] |= values
    return document


def with_classes(*names):
    return Task.load("pcb").model_copy(update={"classes": names})


def test_pictures_come_in_the_files_order_with_their_boxes(root):
    reader = open_recording(root)
    readings = list(reader.readings())
    assert [(c, r.sensor, r.capture_time_ns) for c, r in readings] == [(1, "camera", 0), (2, "camera", 1_000_000_000)]
    assert [int(r.payload.pixels[0, 0, 0]) for _, r in readings] == [ord("b"), ord("a")]
    assert [c for c, _ in reader.readings(1)] == [2]
    first, second = reader.truth()
    assert [(o.track, o.label, o.box2d, o.visibility) for o in first.objects] == [
        (1, "person", Box2D(5.5, 6, 12.5, 14), 1.0),
        (2, "dontcare", Box2D(0, 0, 50, 30), 0.0),
    ]
    assert [(o.track, o.label, o.box2d) for o in second.objects] == [(3, "traffic-light", Box2D(1, 2, 11, 22))]
    info = reader.info()
    assert (info.format, info.truths, info.continuous, info.unread, info.task) == ("coco", 2, False, (), "")
    assert "nominal" in info.notes["times"]
    assert "1 regions of many" in info.notes["crowds"]


def test_a_task_gives_camera_rate_and_classes(root):
    task = with_classes("person", "traffic-light")
    assert [(r.sensor, r.capture_time_ns) for _, r in open_recording(root, task).readings()] == [
        ("line", 0),
        ("line", 200_000_000),
    ]
    told = r"task pcb does not know traffic-light; its classes are person, dog, the data's are person, traffic-light"
    with pytest.raises(RecordingError, match=told):
        open_recording(root, with_classes("person", "dog"))


def test_crowds_and_unused_categories_need_no_class(root):
    write(root, changed("annotations", 0, iscrowd=1))
    assert open_recording(root, with_classes("person", "dog")).info().truths == 2


def test_splits_lie_in_annotations(root):
    (root / "instances.json").unlink()
    write(root, DOCUMENT, "annotations/instances_train2017.json")
    assert open_recording(root).info().truths == 2
    write(root, DOCUMENT | {"annotations": []}, "annotations/instances_val2017.json")
    (root / "val2017").mkdir()
    (root / "images" / "a.png").rename(root / "val2017" / "a.png")
    assert open_recording(root, None, "val2017").info().truths == 2
    assert open_recording(root, None, "train2017").info().unread
    with pytest.raises(RecordingError, match="several splits; give one; there are: train2017, val2017"):
        open_recording(root)
    with pytest.raises(RecordingError, match="no split 'test' in it"):
        open_recording(root, None, "test")


def test_listed_pictures_that_are_not_there_are_told(root):
    (root / "images" / "b.png").unlink()
    reader = open_recording(root)
    assert [len(truth.objects) for truth in reader.truth()] == [1]
    assert reader.info().unread == ("1 of 2 listed pictures, which are not in the folder",)
    (root / "images" / "a.png").unlink()
    with pytest.raises(RecordingError, match="none of its 2 pictures is in"):
        open_recording(root)


def test_a_picture_of_another_size_than_its_boxes_are_for(root):
    for size, told in (({"width": 61}, "61x40"), ({"width": 0, "height": 41}, r"\?x41"), ({"width": -60}, "-60x40")):
        write(root, changed("images", 0, **size))
        with pytest.raises(RecordingError, match=f"b.png: 60x40 pixels, but its boxes are for {told}"):
            open_recording(root)
        info = open_recording(root, salvage=True).info()
        assert info.sensors["camera"].count == 1
        assert "b.png" in info.damage
        assert info.truths == 1
        assert [t.time_ns for t in open_recording(root, salvage=True).truth()] == [1_000_000_000]


def test_boxes_without_an_area_are_left_out_and_counted(root):
    document = changed("annotations", 1, bbox=[5.5, 6, 0, 8])
    document["annotations"].append({"image_id": 3, "category_id": 1, "bbox": [1e9, 2, 1e-12, 4]})
    write(root, document)
    reader = open_recording(root, with_classes("traffic-light"))
    assert [[o.label for o in truth.objects] for truth in reader.truth()] == [["dontcare"], ["traffic-light"]]
    assert reader.info().notes["empty boxes"] == "2 without an area, left out of the truth"
    assert "empty boxes" not in open_recording(rewritten(root)).info().notes


def rewritten(root):
    write(root, DOCUMENT)
    return root


@pytest.mark.parametrize("name", ["n" * 999 + ".png", "d" * 999 + "/a.png", "\ud800.png"])
def test_a_name_that_no_file_can_have(root, name):
    write(root, changed("images", 1, file_name=name))
    problem = ""
    try:
        assert open_recording(root).info().unread
    except RecordingError as error:
        problem = str(error)
    assert ("cannot be looked for" in problem) == (len(name) > 255)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", "not JSON"),
        ({"images": []}, "'categories' is missing"),
        (changed("annotations", 1, image_id=5), r"annotations\[1\]: no picture has the id 5"),
        (changed("annotations", 1, category_id=5), r"annotations\[1\]: no category has the id 5"),
        (changed("annotations", 1, bbox=[1, 2, -3, 4]), r"annotations\[1\].bbox: a box of -3x4 pixels"),
        (changed("annotations", 1, bbox=[1, 2, 3]), r"annotations\[1\].bbox"),
        (changed("images", 1, id=7), "two of its pictures have the same id"),
        (changed("images", 1, file_name="../a.png"), "leads out of the folder"),
        (changed("categories", 1, name="person"), "is there twice"),
    ],
)
def test_a_wrong_file_is_named_with_the_key(root, document, text):
    write(root, document)
    with pytest.raises(RecordingError, match=text) as caught:
        open_recording(root)
    assert str(caught.value).startswith(str(root / "instances.json"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_file_is_read_or_a_recording_error(root, data):
    whole = json.dumps(DOCUMENT).encode()
    cut = data.draw(st.integers(0, len(whole)))
    junk = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"[", b"null,", b"1e999", b"-", b'"'])))
    (root / "instances.json").write_bytes(whole[:cut] + junk + whole[cut + data.draw(st.integers(0, 9)) :])
    problem = "instances.json"
    try:
        reader = open_recording(root)
        assert len(list(reader.truth())) == reader.info().truths
    except RecordingError as error:
        problem = str(error)
    assert str(root) in problem or "instances.json" in problem


def test_the_real_set(tmp_path):
    if not COCO.exists():
        pytest.skip(f"{COCO} is not here")
    reader = open_recording(COCO)
    info = reader.info()
    assert (info.sensors["camera"].count, info.truths) == (47, 47)
    assert info.unread == ("46 of 93 listed pictures, which are not in the folder",)
    objects = [o for truth in reader.truth() for o in truth.objects]
    assert (len(objects), sum(o.label == "dontcare" for o in objects)) == (324, 4)
    with pytest.raises(RecordingError, match=r"task yard does not know airplane, .*its classes are drum, pallet"):
        open_recording(COCO, Task.load("yard"))
    done = convert(COCO, tmp_path / "a.mcap")
    assert (done.readings, done.truths) == ({"camera": 47}, 47)
    kept = [o for truth in open_recording(tmp_path / "a.mcap").truth() for o in truth.objects]
    assert [(o.label, o.visibility) for o in kept] == [(o.label, o.visibility) for o in objects]


def test_the_real_sets_two_forms_tell_the_same(tmp_path):
    if not COCO.exists():
        pytest.skip(f"{COCO} is not here")
    for name, target in (("images", "images"), ("labels", "labels_yolo"), ("data.yaml", "yolo_classes.yaml")):
        (tmp_path / name).symlink_to((COCO / target).resolve())
    categories = json.loads((COCO / "instances.json").read_bytes())["categories"]
    task = with_classes(*sorted(c["name"].replace(" ", "-") for c in categories))
    task = task.model_copy(update={"labels": task.labels.model_copy(update={"form": "yolo"})})
    yolo = open_recording(tmp_path, task)
    names = [path.name for path in sorted((COCO / "images").iterdir())]
    by_name = dict(zip(names, yolo.truth(), strict=True))
    assert sum(len(truth.objects) for truth in by_name.values()) == 320
    listed = [p["file_name"] for p in json.loads((COCO / "instances.json").read_bytes())["images"]]
    here = [name for name in listed if name in by_name]
    for name, truth in zip(here, open_recording(COCO, task).truth(), strict=True):
        expected = [o for o in truth.objects if o.label != "dontcare"]
        found = list(by_name[name].objects)
        assert sorted(o.label for o in found) == sorted(o.label for o in expected)
        for thing in expected:
            best = max(o.box2d.iou(thing.box2d) for o in found if o.label == thing.label)
            assert best > 0.9
