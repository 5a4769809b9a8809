"""`edge-node run` as a process of its own: what it tells, and what it leaves in its spool."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_node.models import model_folder
from edge_node.spool import Spool
from fusion.task import Task

from ..ports import free_address

PROGRAM = Path(__file__).parent / "programs" / "timed_daemon.py"
YARD = Path(__file__).parents[2] / "fusion" / "recordings" / "yard.mcap"


class Process:
    """`edge-node run` on `source`, TOML, until `end`."""

    def __init__(self, folder: Path, source: str, uplink: str = 'address = "127.0.0.1:1"', **environment: str) -> None:
        if not YARD.is_file() or not (model_folder(Task.load("yard"), "") / "detector.onnx").is_file():
            pytest.skip("the yard's models and recording are not bundled in this checkout")
        self._listen = free_address()
        self._spool, self._summary, self._log = (folder / name for name in ("spool.db", "summary.json", "log"))
        config = folder / "edge.toml"
        config.write_text(
            f'device = "cart-1"\ntask = "yard"\n{source}\n[spool]\npath = "{self._spool}"\nkeep_free_bytes = 0\n'
            f'[uplink]\n{uplink}\n[metrics]\nlisten = "{self._listen}"\n'
        )
        command = [sys.executable, str(PROGRAM), "run", "--config", str(config), "--summary", str(self._summary)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})

    def told(self) -> dict:
        try:
            with urllib.request.urlopen(f"http://{self._listen}/healthz", timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except urllib.error.URLError:
            return {}

    def metrics(self) -> dict[str, float]:
        while True:
            try:
                with urllib.request.urlopen(f"http://{self._listen}/metrics", timeout=60) as answer:
                    lines = answer.read().decode().splitlines()
                break
            except urllib.error.HTTPError:  # its spool is too busy to answer
                time.sleep(0.1)
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def until(self, condition: Callable[[], object], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def more_samples(self, count: int) -> None:
        seen = self.metrics()["fusion_edge_samples_total"]
        self.until(lambda: self.metrics()["fusion_edge_samples_total"] >= seen + count)

    def log(self) -> str:
        return self._log.read_text()

    def lines(self, text: str) -> list[tuple[float, str]]:
        """(monotonic seconds by the daemon, message) of the log's lines with `text` in them."""
        found = (line.partition(" ") for line in self.log().splitlines() if text in line)
        return [(float(at), message) for at, _, message in found]

    def end(self) -> dict:
        """The run's summary, once SIGTERM ended it well."""
        self._process.send_signal(signal.SIGTERM)
        return self.ended(0)

    def ended(self, code: int) -> dict:
        """The run's summary, once it ended with exit code `code`."""
        assert self._process.wait(90) == code, self.log()
        assert "Traceback" not in self.log()
        return json.loads(self._summary.read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def samples(self) -> list[tuple[int, dict]]:
        """(time, slots) of each sample in the spool, in their order."""
        with closing(Spool.open(self._spool, "cart-1", "yard")) as spool:
            rows = spool.query("SELECT time_ns, slots FROM samples ORDER BY sequence")
        return [(time_ns, json.loads(slots)) for time_ns, slots in rows]
