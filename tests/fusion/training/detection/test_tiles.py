"""Pictures are cut into tiles whose labels and names come back as they were."""

from pathlib import Path

import numpy as np
import pytest

from fusion.recording.pictures.image_folder import LabelledBox, LabelledImage
from fusion.training.detection.tiles import cut_tiles, tile_origins, write_data_yaml, write_split
from fusion.types import Box2D, Image


def _picture(width: int, height: int, *boxes: Box2D) -> LabelledImage:
    pixels = np.zeros((height, width, 3), np.uint8)
    return LabelledImage("p", Path("p.png"), Image(pixels), tuple(LabelledBox(box, 0) for box in boxes))


def test_tiles_cover_a_length_to_its_end() -> None:
    assert tile_origins(100, 64, 32) == [0, 32, 36]
    assert tile_origins(40, 64, 32) == [0]


def test_a_label_ends_where_a_picture_smaller_than_the_tile_does() -> None:
    picture = _picture(48, 40, Box2D(30.0, 20.0, 55.0, 44.0))
    ((_, pixels, boxes),) = cut_tiles(picture, 64, 32)
    assert pixels.shape == (40, 48, 3)
    assert [b.box for b in boxes] == [Box2D(30.0, 20.0, 48.0, 40.0)]


def test_no_label_lies_outside_its_picture(tmp_path: Path) -> None:
    picture = _picture(48, 40, Box2D(30.0, 20.0, 55.0, 44.0), Box2D(2.0, 2.0, 9.0, 9.0))
    write_split([picture], tmp_path, "train", total=1, tile=64, stride=32)
    (label,) = (tmp_path / "labels" / "train").iterdir()
    rows = np.loadtxt(label)[:, 1:]
    assert len(rows) == 2
    assert (rows[:, :2] + rows[:, 2:] / 2 <= 1 + 1e-6).all()  # ultralytics drops the picture of any that does not


def test_a_label_is_cut_at_its_tile() -> None:
    picture = _picture(96, 64, Box2D(40.0, 10.0, 70.0, 20.0))
    found = {name: [b.box for b in boxes] for name, _, boxes in cut_tiles(picture, 64, 32)}
    assert found == {"p_0_0": [Box2D(40.0, 10.0, 64.0, 20.0)], "p_0_32": [Box2D(8.0, 10.0, 38.0, 20.0)]}


@pytest.mark.parametrize("folder", ["plain", "y #1", 'it\'s: a "folder"', "straße"])
def test_names_come_back_as_they_were(folder: str, tmp_path: Path) -> None:
    from ultralytics.utils import YAML

    names = ("on", "off", "no", "007", "1e3", "null", "drum/ok")
    root = tmp_path / folder
    root.mkdir()
    read = YAML.load(write_data_yaml(root, names))
    assert read["names"] == dict(enumerate(names))
    assert Path(read["path"]) == root.resolve()
    assert (read["train"], read["val"]) == ("images/train", "images/val")
