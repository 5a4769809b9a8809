"""The example of the page about live sensors is a configuration, and every driver it tells of is there."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

from edge_node.config import EdgeSettings
from edge_node.live.drivers import ENTRY_POINTS, driver_class
from edge_node.live.odometry import ENTRY_POINTS as ODOMETRY
from edge_node.live.odometry import odometry_class
from edge_node.live.triggers import ENTRY_POINTS as TRIGGERS
from edge_node.live.triggers import trigger_class
from fusion.config import load_toml
from fusion.task import Task

PAGE = (Path(__file__).parents[3] / "docs" / "sensors.md").read_text(encoding="utf-8")


def test_the_example_loads_and_its_sensors_are_the_tasks(tmp_path):
    path = tmp_path / "edge.toml"
    path.write_text("\n".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)))
    settings = load_toml(path, EdgeSettings)
    task = Task.load(settings.task)
    for sensor in settings.source.sensors:
        assert driver_class(sensor.url).modality in {None, task.sensors[sensor.name].modality}
    assert trigger_class(settings.source.trigger.url)
    assert odometry_class(settings.source.odometry.url)


def test_every_driver_is_told():
    names = {point.name for group in (ENTRY_POINTS, TRIGGERS, ODOMETRY) for point in entry_points(group=group)}
    told = set(re.findall(r"`([a-z0-9]+):(?://|SOURCE)", PAGE))
    assert names - {"fake", "fake-lidar"} == told
