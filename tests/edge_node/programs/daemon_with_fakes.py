"""A real daemon process with fake models and a fake recording: what the fault tests kill.

daemon_with_fakes.py FRAMES MS_PER_FRAME CONFIG SUMMARY [KEY=VALUE ...]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from edge_node.config import EdgeSettings
from edge_node.daemon import Daemon, Parts
from edge_node.fakes import FakePerception, FakeSource, camera_frames
from edge_node.perception import Look
from edge_node.spool import Spool
from fusion.config import load_toml
from fusion.console import guarded
from fusion.task import Task
from fusion.tracing import open_tracer
from fusion.types import Sample


class SlowPerception(FakePerception):
    """Takes its time, as a model would."""

    seconds = 0.0

    def detect(self, sample: Sample) -> Look:
        time.sleep(self.seconds)
        return super().detect(sample)


def main(frames: str, milliseconds: str, config: str, summary: str, *overrides: str) -> None:
    settings = load_toml(Path(config), EdgeSettings, overrides)
    perception = SlowPerception()
    SlowPerception.seconds = float(milliseconds) / 1e3
    spool = Spool.open(settings.spool.path, settings.device, settings.task, settings=settings.spool)
    tracer = open_tracer(settings.trace, "edge-node", settings.device)
    parts = Parts(Task.load("yard"), FakeSource(camera_frames(int(frames))), perception, spool, tracer=tracer)
    daemon = Daemon(settings, parts, until_done=True, ready=lambda line: print(line, flush=True))
    try:
        daemon.run()
    finally:
        Path(summary).write_text(json.dumps(daemon.summary), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(guarded("edge-node", lambda: main(*sys.argv[1:])))
