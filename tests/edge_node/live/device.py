"""A daemon on stages, in this process: what it tells, and what it leaves in its spool."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from edge_node.config import EdgeSettings
from edge_node.daemon import Daemon, Parts
from edge_node.fakes import FakePerception
from edge_node.live import LiveSource
from edge_node.live.drivers import driver_class
from edge_node.live.fakes import Stage
from edge_node.sources import open_source
from edge_node.spool import Spool
from fusion.clock import Clock
from fusion.task import Task

from .conftest import eye, picture, sweep, until


class Slow(FakePerception):
    """Takes a tenth of a second from when it is told to."""

    seconds = 0.0

    def detect(self, sample):
        time.sleep(self.seconds)
        return super().detect(sample)


class Device:
    """A daemon whose camera and LiDAR are played at 50 Hz beside it; `conduct` ends it."""

    def __init__(
        self,
        folder: Path,
        stages: dict[str, Stage],
        port: int,
        *,
        stalled_s: float = 30,
        clock: Clock | None = None,
        **source: Any,
    ) -> None:
        self.stages, self.port = stages, port
        self.settings = EdgeSettings(
            device="cart-1",
            source={"kind": "live", "sensors": [eye(silent_s=0.5), spin()], **source},
            spool={"path": folder / "spool.db", "keep_free_bytes": 0},
            uplink={"address": "127.0.0.1:1"},
            drain={"grace_s": 10.0},
            power={"source": "off"},
            metrics={"listen": f"127.0.0.1:{port}", "stalled_s": stalled_s},
        )
        self.playing = {"eye", "spin"}
        task = Task.load("yard")
        self.perception = Slow()
        spool = Spool.open(self.settings.spool.path, "cart-1", "yard", settings=self.settings.spool)
        sensors = [(sensor, driver_class(sensor.url)) for sensor in self.settings.source.sensors]
        source = LiveSource(sensors, task, clock=clock) if clock else open_source(self.settings.source, task)
        parts = Parts(task, source, self.perception, spool)
        self.daemon = Daemon(self.settings, parts, clock=clock, ready=lambda _: None)
        self._faults: list[BaseException] = []
        self._over = threading.Event()

    def play(self, conduct) -> list:
        """The samples' slots in the end."""
        for work in (self._sensors, lambda: self._conduct(conduct)):
            threading.Thread(target=work, daemon=True).start()
        try:
            self.daemon.run()
        finally:
            self._over.set()
        assert not self._faults, self._faults
        return [json.loads(row[0]) for row in self.query("SELECT slots FROM samples ORDER BY sequence")]

    def query(self, sql: str) -> list:
        spool = Spool.open(self.settings.spool.path, "cart-1", "yard")
        try:
            return spool.query(sql)
        finally:
            spool.close()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, "{}"

    def sensor(self, name: str) -> dict:
        return json.loads(self.get("/healthz")[1]).get("sensors", {}).get(name, {"state": "", "frames": 0})

    def told(self) -> dict:
        return json.loads(self.get("/healthz")[1])

    def _conduct(self, conduct) -> None:
        try:
            until(lambda: self.sensor("front")["frames"] > 5 and self.sensor("roof")["frames"] > 5)
            conduct()
        except BaseException as error:
            self._faults.append(error)
        self.daemon.stop()

    def _sensors(self) -> None:
        payloads = {"eye": picture, "spin": sweep}
        while not self._over.wait(0.02):
            for name in list(self.playing):
                self.stages[name].script.put(payloads[name]())


def spin() -> dict:
    return {"name": "roof", "url": "fake-lidar://spin", "silent_s": 0.5, "backoff_first_s": 0.01, "backoff_max_s": 0.02}
