"""The two nodes as real processes: started from configuration files, waited for, and ended in order."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fusion.errors import UnavailableError

CLOUD_NICENESS = 19
TIED = "replay.live.tied"
START_S = 120.0
"""How long a node may take until it says that it is ready: a cold disk, torch, and nothing else running well."""


@dataclass(slots=True)
class Node:
    """A running node. `log` is the file its messages go to, `ready` the line it said when it was."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    ready: str = ""

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, wait for the drain, SIGKILL after `timeout_s`; the exit code."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        """SIGKILL: no warning, no drain."""
        self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def start(module: str, arguments: list[str], log: Path, *, ready: str = "ready", niceness: int = 0) -> Node:
    """Start `python -m module arguments` and wait for the line that begins with `ready`.

    A positive `niceness` leaves the processors to others first. It ends as by SIGTERM when this process is gone.

    Raises `UnavailableError` with the node's last words when it ends or stays silent.
    """
    stream = log.open("a", encoding="utf-8")
    tied = [sys.executable, "-u", "-m", TIED, str(os.getpid())]
    command = ["nice", "-n", str(niceness), *tied, module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, bufsize=1)
    stream.close()
    node = Node(module.partition(".")[0].replace("_", "-"), process, log)
    assert process.stdout is not None
    try:
        node.ready = _wait(node, process.stdout, ready)
    except BaseException:
        node.kill()
        raise
    return node


def _wait(node: Node, output: IO[str], ready: str) -> str:
    ends = time.monotonic() + START_S
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < ends:
            if not selector.select(timeout=0.2):
                if not node.running:
                    break
                continue
            line = output.readline()
            if line.startswith(ready):
                return line.strip()
            if not line:
                break
    raise UnavailableError(f"{node.name} did not become ready: {node.last_words()}; all of it in {node.log}")


@contextmanager
def service(config: Path, log: Path) -> Iterator[tuple[Node, str]]:
    """The review service from `config`, as (node, address); drained at the end.

    It shares this machine with the device, which would have its processors for itself: the device goes first.
    """
    node = start("cloud_node.cli", ["serve", "--config", str(config)], log, niceness=CLOUD_NICENESS)
    try:
        yield node, node.ready.removeprefix("ready on ").strip()
    finally:
        node.stop()


def daemon(config: Path, log: Path, summary: Path) -> Node:
    """The edge daemon from `config`, running until its recording is done and all is answered."""
    return start("edge_node.cli", ["run", "--config", str(config), "--until-done", "--summary", str(summary)], log)
