"""A camera of any size gets a graph that its pictures fit into; one of no size is refused before anything starts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusion.cli import main
from fusion.engines import load_engine
from fusion.errors import ConfigError
from fusion.perception import DetectorStage
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.export import export_detector
from fusion.training.detection.input_size import check_image_size, input_size
from fusion.training.detection.make import CALIBRATION_IMAGES
from fusion.training.detection.sources import calibration_pictures
from fusion.types import Image

from .conftest import TASK

CAMERA = """[sensors.line]
modality = "camera"
width = 64
height = 64
"""
EAR = """[sensors.ear]
modality = "lidar"
"""
COMMANDS = ("train detector", "distill --teacher yolov8s", "prune --start x.pt", "export detector --weights x.pt")


@pytest.fixture
def task_with(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the squares' task with other sensors."""

    def write(sensors: str) -> Path:
        path = tmp_path / "other.toml"
        path.write_text(TASK.replace(CAMERA, sensors))
        return path

    return write


@pytest.mark.parametrize(
    ("name", "size"),
    [("kitti", (1248, 384)), ("nuscenes", (1600, 928)), ("yard", (640, 384)), ("pcb", (640, 640))],
)
def test_a_graph_takes_the_next_multiple_of_its_coarsest_cell(name: str, size: tuple[int, int]) -> None:
    assert input_size(Task.load(name)) == size


def test_pictures_of_an_odd_camera_are_detected_in_their_own_pixels(
    taught: Path, pictures: ImageFolder, task_with: Callable[[str], Path], tmp_path: Path
) -> None:
    odd = Task.load(str(task_with(CAMERA.replace("width = 64", "width = 70").replace("height = 64", "height = 50"))))
    profile = export_detector(taught, odd, calibration_pictures(pictures, CALIBRATION_IMAGES), tmp_path / "odd")
    assert (profile.image_width, profile.image_height) == (96, 64)
    stage = DetectorStage(load_engine(tmp_path / "odd" / GRAPH_NAME, threads=1), odd, profile, score_floor=0.3)
    picture = pictures.load(pictures.stems("test")[0])
    wide = np.full((50, 70, 3), 110, np.uint8)
    wide[:, :50] = picture.image.pixels[:50, :50]
    found = stage.run(Image(wide))
    assert [level.shape[1:] for level in found.maps] == [(8, 12), (4, 6), (2, 3)]
    inside = [b.box for b in picture.boxes if b.box.x2 < 50 and b.box.y2 < 50]
    assert inside
    placed = [found.placement.to_frame(d.box) for d in found.detections]
    for box in inside:
        assert min(abs(p.x1 - box.x1) + abs(p.y1 - box.y1) for p in placed) < 8


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("sensors", "told"),
    [
        (EAR, "task squares has no camera"),
        (CAMERA.replace("width = 64\n", ""), "its camera line has 0x64 pixels"),
        (CAMERA.replace("height = 64", "height = 9000"), "its camera line has 64x9000 pixels"),
    ],
    ids=["none", "no width", "too high"],
)
def test_a_task_without_a_camera_that_sees_is_refused_before_anything_starts(
    command: str, sensors: str, told: str, task_with: Callable[[str], Path], root: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    options = ["--task", task_with(sensors), "--data", root, "--out", out]
    assert main([*command.split(), *map(str, options)]) == ConfigError.exit_code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not out.exists()


def test_training_pictures_have_whole_cells() -> None:
    check_image_size(320)
    for side, better in ((300, 320), (1, 32), (0, 32), (-5, 32)):
        with pytest.raises(ConfigError, match=rf"--image-size {side}: give a multiple of 32, as {better}"):
            check_image_size(side)
