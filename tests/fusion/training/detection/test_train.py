"""The trainer's own run, short: where it leaves its checkpoint, and that it goes on from an exported graph."""

from importlib import resources
from pathlib import Path

import pytest
import torch

from fusion.errors import ConfigError
from fusion.simulation import Split
from fusion.simulation.scene_set import write_scene_set
from fusion.task import Task
from fusion.training.detection.export import export_detector
from fusion.training.detection.low_precision import transposed
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.sources import image_folder, scene_data
from fusion.training.detection.train import train_detector
from fusion.training.detection.warm_start import read_weights


def test_a_run_ends_where_it_was_told_and_another_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative folder once ended under one of the trainer's own
    task = Task.load("yard")
    write_scene_set(Path("scenes"), Split.TRAIN, 4, 40)
    write_scene_set(Path("scenes"), Split.VAL, 1, 90)
    yaml = scene_data(task, Path("scenes"), Path("data"))
    start = Path(str(resources.files("fusion").joinpath("weights", "yard")))
    recipe = DetectorRecipe(image_size=256, epochs=1, batch=2, rectangular=True, learning_rate=1e-6, start=str(start))
    weights = train_detector(yaml, Path("runs/yard/detector"), recipe)
    assert weights.is_file()
    assert weights.is_relative_to(tmp_path / "runs/yard/detector")
    pictures = image_folder(task, Path("scenes"))
    seen = [pictures.load(stem).image.pixels for stem in pictures.stems("train")]
    profile = export_detector(weights, task, seen, Path("weights/yard"))  # too few cells open unless it still detects
    assert [level.channels for level in profile.levels] == [24, 32, 32]
    assert "model.0.conv.weight" in read_weights(Path("weights/yard/detector.onnx"))


def test_a_transposed_picture_keeps_its_boxes_on_their_things() -> None:
    pictures = torch.zeros(3, 3, 40, 40)
    pictures[:, :, 4:8, 10:30] = 1.0
    boxes = torch.tensor([[20 / 40, 6 / 40, 20 / 40, 4 / 40]]).repeat(3, 1)
    batch = {"img": pictures, "bboxes": boxes, "batch_idx": torch.tensor([2.0, 0.0, 1.0]), "cls": torch.ones(3, 1)}
    swapped = transposed(batch, torch.tensor([True, False, True]))
    for picture, (x, y, width, height) in zip([2, 0, 1], (swapped["bboxes"] * 40).tolist(), strict=True):
        inside = swapped["img"][picture, 0, round(y - height / 2) : round(y + height / 2)]
        assert inside[:, round(x - width / 2) : round(x + width / 2)].sum() == 80
    assert torch.equal(swapped["bboxes"][2], boxes[2])
    assert torch.equal(batch["bboxes"], boxes)


def test_a_recipe_cannot_transpose_what_is_not_square(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot transpose"):
        train_detector(tmp_path / "data.yaml", tmp_path, DetectorRecipe(transpose=0.5, rectangular=True))
