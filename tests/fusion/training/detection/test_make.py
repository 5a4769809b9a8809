"""A worse detector never replaces a better one."""

import json
from pathlib import Path

import pytest

from fusion.errors import ModelError
from fusion.evaluation.detection import DetectionMetrics
from fusion.training.detection.make import MAY_LOSE, _gate


def test_it_is_held_to_the_bundled_ones_card(tmp_path: Path) -> None:
    def gate(map50: float) -> None:
        _gate(DetectionMetrics(10, map50, map50 / 2), tmp_path)

    gate(0.0)  # nothing is bundled there yet
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"Metrics": {"map50": 0.8}}))
    gate(0.8 - MAY_LOSE / 2)
    with pytest.raises(ModelError, match=r"mAP50 0\.700 of the new detector is below the bundled 0\.800"):
        gate(0.7)
    card.write_text(json.dumps({"Variant": {"precision": "int8"}}))
    with pytest.raises(ModelError, match=r"card\.json: tells no mAP50"):
        gate(0.9)
