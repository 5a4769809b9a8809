"""A row of the table of detectors: sizes as they are, accuracy on the split that validates."""

from pathlib import Path

import pytest

from fusion.errors import ModelError
from fusion.training.detection.architectures import new_network, parameters
from fusion.training.detection.operations import multiply_adds
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.validation import measure_checkpoint, table


def test_a_row_tells_sizes_and_accuracy(
    taught: Path, random_checkpoint, data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path
) -> None:
    row = measure_checkpoint(taught, data_yaml, recipe, tmp_path)
    network = new_network("yolov8n", 2)
    assert row["architecture"] == "yolov8n"
    assert row["parameters"] == parameters(network)
    assert row["multiply_adds"] == multiply_adds(network, recipe.image_size)
    assert row["bytes"] == taught.stat().st_size
    assert 0.5 < row["map50"] <= 1
    assert row["map50_95"] <= row["map50"]
    untaught = measure_checkpoint(random_checkpoint("yolov8n"), data_yaml, recipe, tmp_path)
    assert untaught["map50"] < 0.1
    assert not list(Path.cwd().glob("runs/detect"))  # the library's habit


def test_a_checkpoint_that_is_none_is_named(data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt: no such checkpoint"):
        measure_checkpoint(tmp_path / "none.pt", data_yaml, recipe, tmp_path)


def test_the_table_has_a_line_a_detector() -> None:
    row = {"architecture": "yolov8n", "parameters": 3_006_038, "multiply_adds": 4_050_000_000, "bytes": 6_250_000}
    told = table({"teacher": row | {"map50": 0.9, "map50_95": 0.61234}}).splitlines()
    assert told[2:] == ["| teacher | yolov8n | 3,006,038 | 4,050 | 6.25 | 0.9000 | 0.6123 |"]
    assert told[0].count("|") == told[1].count("|") == told[2].count("|")
