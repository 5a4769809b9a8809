"""A tiny task, red and green squares on grey, its pictures, and detectors of it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.detection.architectures import Network, new_network
from fusion.training.detection.checkpoint import write_checkpoint
from fusion.training.detection.export import export_detector
from fusion.training.detection.make import CALIBRATION_IMAGES
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.sources import calibration_pictures, image_folder, training_data
from fusion.training.detection.train import train_detector

SIDE = 64
TASK = """
name = "squares"
title = "Squares"
classes = ["red", "green"]
prompt = "A square."
source = "made up"
[sensors.line]
modality = "camera"
width = 64
height = 64
rate_hz = 5.0
[[slots]]
name = "defect"
question = "Is it one?"
options = ["false-alarm", "real"]
"""


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    picture = rng.normal(110, 6, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    lines = []
    for x0, kind in zip(rng.permutation([2, 34]), rng.integers(0, 2, 2), strict=True):
        side = int(rng.integers(14, 24))
        x, y = int(x0 + rng.integers(0, 28 - side + 1)), int(rng.integers(2, SIDE - side - 2))
        picture[y : y + side, x : x + side] = (30, 40, 220) if kind == 0 else (30, 200, 40)  # blue, green, red
        centre = (x + side / 2) / SIDE, (y + side / 2) / SIDE
        lines.append(f"{kind} {centre[0]:.5f} {centre[1]:.5f} {side / SIDE:.5f} {side / SIDE:.5f}")
    return picture, lines


@pytest.fixture(scope="session")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("task") / "squares.toml"
    path.write_text(TASK)
    return path


@pytest.fixture(scope="session")
def task(task_file: Path) -> Task:
    return Task.load(str(task_file))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder: 60 pictures to learn from and validate on, 10 to test with."""
    folder = tmp_path_factory.mktemp("squares")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    rng = np.random.default_rng(3)
    stems = [f"p{i:02d}" for i in range(70)]
    for stem in stems:
        picture, lines = _draw(rng)
        cv2.imwrite(str(folder / "images" / f"{stem}.png"), picture)
        (folder / "labels" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    (folder / "trainval.txt").write_text("\n".join(stems[:60]))
    (folder / "test.txt").write_text("\n".join(stems[60:]))
    return folder


@pytest.fixture(scope="session")
def pictures(task: Task, root: Path) -> ImageFolder:
    return image_folder(task, root)


@pytest.fixture(scope="session")
def data_yaml(task: Task, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_data(task, root, tmp_path_factory.mktemp("data"), SIDE)


@pytest.fixture(scope="session")
def recipe() -> DetectorRecipe:
    return DetectorRecipe(image_size=SIDE, epochs=7, batch=8, learning_rate=0.005, threads=1, scale=0.0, hue=0.0)


@pytest.fixture(scope="session")
def taught(data_yaml: Path, recipe: DetectorRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a yolov8n that tells red squares from green ones; the slowest thing here (a minute)."""
    return train_detector(data_yaml, tmp_path_factory.mktemp("taught") / "run", recipe)


@pytest.fixture(scope="session")
def bundle(taught: Path, task: Task, pictures: ImageFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That detector as a trunk."""
    folder = tmp_path_factory.mktemp("bundle") / "squares"
    export_detector(taught, task, calibration_pictures(pictures, CALIBRATION_IMAGES), folder)
    return folder


def lively(network: Network, seed: int = 3) -> Network:
    """The network with batch norms as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            module.weight.data.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            module.bias.data.copy_(0.2 * torch.randn(module.num_features, generator=generator))
    return network


@pytest.fixture
def random_checkpoint(tmp_path: Path):
    """Writes an untaught network's checkpoint with the classes of the squares, or with others."""

    def write(architecture: str, names: tuple[str, ...] = ("red", "green")) -> Path:
        torch.manual_seed(1)
        network = lively(new_network(architecture, len(names)))
        network.names = dict(enumerate(names))
        return write_checkpoint(network, tmp_path / f"{architecture}.pt")

    return write
