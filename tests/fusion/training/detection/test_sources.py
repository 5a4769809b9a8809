"""Training pictures in the form ultralytics reads."""

from pathlib import Path

import pytest
from ultralytics.utils import YAML

from fusion.errors import RecordingError
from fusion.simulation import Split
from fusion.simulation.observe import clearly_seen
from fusion.simulation.scene_set import read_truth, write_scene_set
from fusion.task import Task
from fusion.training.detection.kinds import kind_of
from fusion.training.detection.sources import scene_data


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
