"""Training pictures in the form ultralytics reads."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics.utils import YAML

from fusion.errors import InputError, RecordingError
from fusion.simulation import Split
from fusion.simulation.observe import clearly_seen
from fusion.simulation.scene_set import read_truth, write_scene_set
from fusion.task import Task
from fusion.training.detection.kinds import kind_of
from fusion.training.detection.sources import scene_data, tiled_data, training_data
from fusion.training.detection.tiles import data_names


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scene_set(folder, Split.TRAIN, 3, 40)
    write_scene_set(folder, Split.VAL, 1, 90)
    return folder


def test_scenes_are_labelled_by_kind(root: Path, tmp_path: Path) -> None:
    names = YAML.load(scene_data(Task.load("yard"), root, tmp_path / "data"))["names"]
    assert list(names) == list(range(len(names)))
    assert "drum/ok" in names.values()
    pictures = [Path(line) for line in (tmp_path / "data" / "train.txt").read_text().split()]
    assert len(pictures) == 3
    for picture in pictures:
        assert picture.is_file()
        label = Path(str(picture).replace("/images/", "/labels/")).with_suffix(".txt")  # as ultralytics looks for it
        told = [names[int(line.split()[0])] for line in label.read_text().splitlines()]
        assert told == [kind_of(o) for o in read_truth(root, picture.stem).objects if clearly_seen(o)]
    assert [Path(p).stem for p in (tmp_path / "data" / "val.txt").read_text().split()] == ["val_000090"]


def test_the_scene_sets_own_labels_stay(root: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_text() for p in (root / "labels").iterdir()}
    scene_data(Task.load("yard"), root, tmp_path / "data")
    scene_data(Task.load("yard"), root, tmp_path / "data")
    assert {p.name: p.read_text() for p in (root / "labels").iterdir()} == before


def test_a_missing_split_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="fusion simulate yard"):
        scene_data(Task.load("yard"), tmp_path, tmp_path / "data")


BOARDS = Task.load("pcb")


def _pictures(root: Path, *stems: str, side: int = 64) -> Path:
    """An image folder of the board task's form with one box a picture; the first picture validates."""
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        cv2.imwrite(str(root / "images" / f"{stem}.png"), np.full((side, side, 3), 90, np.uint8))
        (root / "labels" / f"{stem}.txt").write_text("5 5 20 20 1\n")
    (root / "trainval.txt").write_text("\n".join(stems))
    return root


def _tiles(yaml: Path) -> set[str]:
    return {path.stem.split("_")[0] for path in (yaml.parent / "images").rglob("*.jpg")}


def test_other_pictures_are_other_tiles(tmp_path: Path) -> None:
    first, second = _pictures(tmp_path / "a", "a0", "a1"), _pictures(tmp_path / "b", "b0", "b1")
    yaml = tiled_data(BOARDS, first, tmp_path / "out", 64)
    assert _tiles(yaml) == {"a0", "a1"}
    written = yaml.stat().st_mtime_ns
    assert tiled_data(BOARDS, first, tmp_path / "out", 64).stat().st_mtime_ns == written  # used again
    assert tiled_data(BOARDS, second, tmp_path / "out", 64) == yaml
    assert _tiles(yaml) == {"b0", "b1"}
    moved = (tmp_path / "out").rename(tmp_path / "later")
    yaml = tiled_data(BOARDS, second, moved, 64)
    assert YAML.load(yaml)["path"] == str(yaml.parent.resolve())


@pytest.mark.parametrize("change", ["label", "picture", "one more"])
def test_changed_pictures_are_cut_anew(change: str, tmp_path: Path) -> None:
    root = _pictures(tmp_path / "a", "a0", "a1")
    yaml = tiled_data(BOARDS, root, tmp_path / "out", 64)
    (yaml.parent / "stale.cache").touch()
    if change == "label":
        (root / "labels" / "a0.txt").write_text("5 5 20 20 2\n")  # as long as before
    elif change == "picture":
        _pictures(root, "a0", "a1", side=128)
    else:
        _pictures(root, "a0", "a1", "a2")
    tiled_data(BOARDS, root, tmp_path / "out", 64)
    assert not (yaml.parent / "stale.cache").exists()
    labels = [path.read_text() for path in (yaml.parent / "labels").rglob("*.txt")]
    assert (change == "label") == any(text.startswith("1 ") for text in labels)
    assert ("a2" in _tiles(yaml)) == (change == "one more")


@pytest.mark.parametrize("left", ["data-64", "data-64.part"])
def test_a_preparation_that_was_cut_short_leaves_nothing(left: str, tmp_path: Path) -> None:
    stray = tmp_path / "out" / left / "images" / "train" / "other_0_0.jpg"
    stray.parent.mkdir(parents=True)
    stray.touch()
    yaml = tiled_data(BOARDS, _pictures(tmp_path / "a", "a0", "a1"), tmp_path / "out", 64)
    assert _tiles(yaml) == {"a0", "a1"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data-64"]


def test_what_is_no_prepared_data_is_never_removed(tmp_path: Path) -> None:
    root = _pictures(tmp_path / "a", "a0", "a1")
    mine = tmp_path / "out" / "data-64" / "notes.md"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(InputError, match=r"notes\.md is none; move it"):
        tiled_data(BOARDS, root, tmp_path / "out", 64)
    assert mine.exists()
    own = _pictures(tmp_path / "own" / "data-64", "a0", "a1")
    (own / "trainval.txt").rename(own / "train.txt")
    shutil.copy(own / "train.txt", own / "val.txt")
    with pytest.raises(InputError, match="lies where training data is prepared"):
        tiled_data(BOARDS, own, tmp_path / "own", 64)
    assert (own / "images" / "a0.png").is_file()


def test_scenes_that_moved_are_found_again(root: Path, tmp_path: Path) -> None:
    task = Task.load("yard")
    moved = shutil.copytree(root, tmp_path / "before")
    yaml = training_data(task, moved, tmp_path / "out", 640)
    names = data_names(yaml)
    moved = moved.rename(tmp_path / "after")
    assert training_data(task, moved, tmp_path / "out", 640) == yaml
    pictures = (yaml.parent / "train.txt").read_text().split()
    assert all(Path(picture).is_file() for picture in pictures)
    assert data_names(yaml) == names
    written = yaml.stat().st_mtime_ns
    assert training_data(task, moved, tmp_path / "out", 640).stat().st_mtime_ns == written


def test_another_scene_set_leaves_no_label_behind(root: Path, tmp_path: Path) -> None:
    task = Task.load("yard")
    fewer = shutil.copytree(root, tmp_path / "fewer")
    stems = (fewer / "train.txt").read_text().split()
    (fewer / "train.txt").write_text("\n".join(stems[:1]))
    scene_data(task, root, tmp_path / "data")
    scene_data(task, fewer, tmp_path / "data")
    labels = {path.stem for path in (tmp_path / "data" / "labels").iterdir()}
    assert labels == {stems[0], *(fewer / "val.txt").read_text().split()}
    (fewer / "images" / f"{stems[0]}.jpg").unlink()
    with pytest.raises(RecordingError, match=rf"{stems[0]}\.jpg: cannot be read"):
        scene_data(task, fewer, tmp_path / "data")
