"""Image folders in Ultralytics' layouts: splits as sub-folders, no splits, and classes named by `data.yaml`."""

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.task import Task


def task(*classes):
    pcb = Task.load("pcb")
    labels = pcb.labels.model_copy(update={"form": "yolo"})
    return pcb.model_copy(update={"classes": classes, "labels": labels})


@pytest.fixture
def root(tmp_path):
    for place in ("train2017/b.png", "train2017/a.JPG", "val/c.png"):
        path = tmp_path / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
        label = tmp_path / "labels" / place.rsplit(".", 1)[0]
        label.parent.mkdir(parents=True, exist_ok=True)
        label.with_suffix(".txt").write_text("1 0.5 0.5 0.5 0.5\n")
    return tmp_path


def labels(reader):
    return [[o.label for o in truth.objects] for truth in reader.truth()]


def test_a_sub_folder_of_both_is_a_split(root):
    reader = open_recording(root, task("cat", "dog"), "train2017")
    assert labels(reader) == [["dog"], ["dog"]]
    assert [c for c, _ in reader.readings()] == [1, 2]
    with pytest.raises(RecordingError, match="needs a split; splits here: train2017, val"):
        open_recording(root, task("cat", "dog"))
    with pytest.raises(RecordingError, match="no such split; splits here: train2017, val"):
        open_recording(root, task("cat", "dog"), "test")


@pytest.mark.parametrize("names", ["names: [cat, Traffic Light]", "names:\n  0: cat\n  1: traffic light"])
def test_data_yaml_names_classes_and_splits(root, names):
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train2017\nval: images/val\n{names}\n")
    reader = open_recording(root, task("traffic-light", "dog", "cat"), "train")
    assert labels(reader) == [["traffic-light"], ["traffic-light"]]
    assert "unknown classes" not in reader.info().notes


def test_names_that_the_task_does_not_know_are_told_when_the_folder_is_opened(root):
    (root / "data.yaml").write_text("names: [cat, Traffic Light]\n")
    reader = open_recording(root, task("traffic-light"), "val")
    assert labels(reader) == [["traffic-light"]]
    assert reader.info().notes["unknown classes"].startswith("cat: named by data.yaml, not known to task pcb; no box")
    told = r"data.yaml: task pcb does not know traffic-light; its classes are cat, dog, the data's are traffic-light"
    with pytest.raises(RecordingError, match=told):
        open_recording(root, task("cat", "dog"), "val")


def test_the_hash_covers_the_class_names(root):
    def sha():
        return open_recording(root, task("cat", "dog"), "val").info().content_sha256

    bare = sha()
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    assert sha() != bare


@pytest.mark.parametrize("text", ["names: 3", "names: [1, 2]", "names: {a: b}", "[]", "names: [", "\0"])
def test_a_wrong_data_yaml_is_named(root, text):
    (root / "data.yaml").write_text(text)
    with pytest.raises(RecordingError, match=r"data.yaml: "):
        open_recording(root, task("cat", "dog"), "val")


@pytest.mark.parametrize("text", ["cat\ndog\n", "", "\n", "Traffic Light\n" * 9999, "caf\xe9\n", "\0\n", "n" * 9999])
def test_a_text_of_other_words_than_pictures_is_no_split(root, text):
    (root / "classes.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordingError, match=r"needs a split; splits here: train2017, val$"):
        open_recording(root, task("cat", "dog"))
    assert labels(open_recording(root, task("cat", "dog"), "val")) == [["dog"]]
    for part in ("images", "labels"):
        for entry in sorted((root / part).rglob("*.*")):
            entry.rename(root / part / entry.name)
        for entry in (root / part).iterdir():
            if entry.is_dir():
                entry.rmdir()
    reader = open_recording(root, task("cat", "dog"))
    assert labels(reader) == [["dog"]] * 3
    assert reader.info().notes["split"] == "all"


@pytest.mark.parametrize("text", ["gone\ntrain2017/a\n", "./images/train2017/a.JPG\n"])
def test_a_text_of_which_one_entry_is_a_picture_is_a_split(root, text):
    (root / "some.txt").write_text(text)
    with pytest.raises(RecordingError, match="splits here: some, train2017, val"):
        open_recording(root, task("cat", "dog"))
    with pytest.raises(RecordingError, match=f"no picture named {text.split()[0]}"):
        open_recording(root, task("cat", "dog"), "some").info()


def test_a_sub_folder_is_a_split_beside_a_text_of_its_name_that_is_none(root):
    (root / "val.txt").write_text("what was measured on val\n")
    assert labels(open_recording(root, task("cat", "dog"), "val")) == [["dog"]]
    (root / "val.txt").write_text("train2017/b\ntrain2017/a\n")
    assert labels(open_recording(root, task("cat", "dog"), "val")) == [["dog"], ["dog"]]


def test_a_folder_without_splits_is_read_as_a_whole(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    with pytest.raises(RecordingError, match="no pictures in it"):
        open_recording(tmp_path, task("cat"))
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((40, 60, 3), np.uint8))
    reader = open_recording(tmp_path, task("cat"))
    assert labels(reader) == [[]]
    assert reader.info().notes["split"] == "all"
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(RecordingError, match="several pictures are called a; their labels cannot be told apart"):
        open_recording(tmp_path, task("cat"))
