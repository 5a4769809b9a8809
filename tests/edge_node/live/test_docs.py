"""The example of the page about live sensors is a configuration, and every driver it tells of is there."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

from edge_node.config import EdgeSettings
from edge_node.live.drivers import ENTRY_POINTS, driver_class
from fusion.config import load_toml
from fusion.task import Task

PAGE = (Path(__file__).parents[3] / "docs" / "sensors.md").read_text(encoding="utf-8")


def test_the_example_loads_and_its_sensors_are_the_tasks(tmp_path):
    path = tmp_path / "edge.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    settings = load_toml(path, EdgeSettings)
    task = Task.load(settings.task)
    assert [task.sensors[s.name].modality for s in settings.source.sensors] == [
        driver_class(s.url).modality for s in settings.source.sensors
    ]


def test_every_driver_is_told():
    names = {point.name for point in entry_points(group=ENTRY_POINTS)}
    told = set(re.findall(r"`([a-z0-9]+)://", PAGE))
    assert names - {"fake", "fake-lidar"} == told
