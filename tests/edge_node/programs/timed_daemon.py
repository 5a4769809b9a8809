"""`edge-node run` as it is, with the monotonic time before each line of its log; fake sensors are played beside it.

timed_daemon.py run --config CONFIG [...]   sensors `fake://eye` and `fake-lidar://spin` deliver at 10 Hz
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from edge_node import cli, sources
from edge_node.live.fakes import FakeDriver, Stage
from edge_node.sources import RecordingSource
from fusion.types import Image, PointCloud, Reading


class Timed(logging.Formatter):
    """`monotonic seconds, message`: a wall clock that is set does not matter."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{time.monotonic():.3f} {record.getMessage()}"


class TimedSource(RecordingSource):
    """Says when it is read first: what is paced is due from then on."""

    def readings(self, cursor: int) -> Iterator[tuple[int, Reading]]:
        logging.info("the recording begins")
        yield from super().readings(cursor)


def play() -> None:
    """Pictures and sweeps for as long as the process lives."""
    picture = Image(np.full((384, 640, 3), 90, np.uint8))
    around = np.linspace(-np.pi, np.pi, 4000, dtype=np.float32)
    points = np.column_stack([8 * np.cos(around), 8 * np.sin(around), np.zeros_like(around), np.full_like(around, 0.4)])
    never = threading.Event()
    while not never.wait(0.1):  # libfaketime refuses time.sleep
        FakeDriver.stages["eye"].script.put(picture)
        FakeDriver.stages["spin"].script.put(PointCloud(points))


if __name__ == "__main__":
    handler = logging.StreamHandler()
    handler.setFormatter(Timed())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    sources.RecordingSource = TimedSource  # type: ignore[misc]
    FakeDriver.stages = {"eye": Stage(), "spin": Stage()}
    threading.Thread(target=play, daemon=True).start()
    sys.exit(cli.main(sys.argv[1:]))
