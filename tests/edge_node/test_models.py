"""A model folder is loaded as a whole, and what does not fit together is told before the first picture."""

from __future__ import annotations

import pytest

from edge_node.config import EngineSettings
from edge_node.models import load_perception, model_folder
from fusion.errors import ConfigError
from fusion.task import Task


def test_more_detections_than_the_fusion_model_takes_are_refused_when_it_loads():
    """Else the first crowded picture would end the device, and a unit does not start that again."""
    yard = Task.load("yard")
    with pytest.raises(ConfigError, match=r"^engine\.max_detections = 33: the fusion model in \S+ takes 32 at most"):
        load_perception(yard, "front", model_folder(yard, ""), EngineSettings(max_detections=33))
