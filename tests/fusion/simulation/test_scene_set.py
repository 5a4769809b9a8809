import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.simulation import Split, simulate_scene
from fusion.simulation.observe import clearly_seen
from fusion.simulation.scene_set import CLASSES, read_scene, stem_of, write_scene_set


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scene_set(folder, Split.TRAIN, 3, 40)
    return folder


def test_reads_back_what_was_simulated(root):
    made, read = simulate_scene(41, Split.TRAIN), read_scene(root, stem_of(Split.TRAIN, 41))
    assert read.truth == made.truth
    assert read.notes == dict(made.notes)
    assert read.time_ns == made.time_ns
    assert np.array_equal(read.audio.pcm, made.audio.pcm)
    assert np.allclose(read.cloud.points, made.cloud.points, atol=0.02)
    assert np.abs(read.image.pixels.astype(float) - made.image.pixels).mean() < 8
    for name, camera in made.rig.cameras.items():
        assert np.array_equal(read.rig.cameras[name].k, camera.k)
        assert np.array_equal(read.rig.cameras[name].ego_from_camera, camera.ego_from_camera)


def test_labels_are_an_image_folder_of_what_is_clearly_seen(root):
    folder = ImageFolder(root, form=LabelForm.YOLO, classes=CLASSES)
    assert folder.stems("train") == ["train_000040", "train_000041", "train_000042"]
    for picture in folder.read("train"):
        seen = [thing for thing in read_scene(root, picture.stem).truth.objects if clearly_seen(thing)]
        assert [CLASSES[box.class_index] for box in picture.boxes] == [thing.label for thing in seen]
        for box, thing in zip(picture.boxes, seen, strict=True):
            assert box.box.iou(thing.box2d) > 0.99


def test_resumes_without_touching_what_is_there(root):
    path = root / "images" / "train_000040.jpg"
    before = path.stat().st_mtime_ns
    write_scene_set(root, Split.TRAIN, 4, 40)
    assert path.stat().st_mtime_ns == before
    assert (root / "train.txt").read_text().split()[-1] == "train_000043"


def test_as_many_scenes_are_listed_as_are_asked_for(root):
    write_scene_set(root, Split.TRAIN, 2, 41)
    assert (root / "train.txt").read_text().split() == ["train_000041", "train_000042"]
    assert (root / "truth" / "train_000040.json").is_file()


def test_a_missing_scene_is_named(root):
    with pytest.raises(RecordingError, match="train_000099"):
        read_scene(root, "train_000099")
