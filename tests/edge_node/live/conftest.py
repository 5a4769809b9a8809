"""Live sources on stages, and a way to wait for what other threads do."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge_node.config import SourceSettings
from edge_node.live import LiveSource
from edge_node.live.fakes import FakeDriver, Stage
from fusion.task import Task
from fusion.types import Image, PointCloud

from ... import ports


def until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def picture() -> Image:
    return Image(np.zeros((4, 4, 3), np.uint8))


def sweep() -> PointCloud:
    return PointCloud(np.zeros((1, 4), np.float32))


@pytest.fixture
def stages(monkeypatch) -> dict[str, Stage]:
    found = {"eye": Stage(), "spin": Stage(), "bell": Stage(), "wheels": Stage()}
    monkeypatch.setattr(FakeDriver, "stages", found)
    return found


@pytest.fixture
def live(stages):
    """Open sources by their sensors' settings; they are closed in the end."""
    opened: list[LiveSource] = []

    def make(*sensors, **more) -> LiveSource:
        given = sensors or (eye(), {"name": "roof", "url": "fake-lidar://spin"})
        source = LiveSource.open(SourceSettings(kind="live", sensors=given, **more), Task.load("yard"))
        opened.append(source)
        return source

    yield make
    for source in opened:
        source.close()


def eye(**more) -> dict:
    return {"name": "front", "url": "fake://eye", "backoff_first_s": 0.01, "backoff_max_s": 0.02, **more}


@pytest.fixture
def free_port() -> int:
    return ports.free_port()
