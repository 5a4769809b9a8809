"""An int8 detector is computed as its gate measured it, whatever the processor could do faster."""

import json

import pytest

from edge_node import models
from edge_node.config import EngineSettings
from fusion.errors import ModelError
from fusion.perception.detector_variant import VARIANT_NAME, detector_precision
from fusion.training import review_items
from fusion.training.detection import measure


@pytest.fixture
def bundle(graph, profile, tmp_path):
    """Says that it is an int8 detector."""
    profile.save(tmp_path)
    (tmp_path / "detector.onnx").write_bytes(graph.read_bytes())
    (tmp_path / VARIANT_NAME).write_text(json.dumps({"precision": "int8", "max_loss": 0.005}))
    return tmp_path


def test_an_int8_detector_is_otherwise_in_float32(bundle):
    assert detector_precision(bundle) == "f32"
    assert detector_precision(bundle, "bf16") == "bf16"  # whoever says so gets it
    (bundle / VARIANT_NAME).write_text(json.dumps({"precision": "bf16"}))
    assert detector_precision(bundle) == "auto"
    (bundle / VARIANT_NAME).unlink()
    assert detector_precision(bundle) == "auto"


@pytest.mark.parametrize("text", ["[]", "{", "{}", "null", "\ud800"])
def test_a_file_that_cannot_be_read_is_named(bundle, text):
    (bundle / VARIANT_NAME).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"detector-variant\.json: cannot be read"):
        detector_precision(bundle)


def test_whoever_loads_it_asks_for_that(bundle, task, profile, monkeypatch):
    asked = []

    def load(path, *, precision="auto", **_):
        asked.append(precision)
        raise ModelError(str(path))

    for module in (models, review_items, measure):
        monkeypatch.setattr(module, "load_engine", load)
    made_for_it = EngineSettings()
    for read in (
        lambda: models.load_detector(task, bundle, made_for_it),
        lambda: review_items.Device.load(task, bundle, review_items.ItemRecipe()),
        lambda: measure.measure_detector(task, bundle, []),
    ):
        with pytest.raises(ModelError):
            read()
    assert asked == ["f32"] * 3
