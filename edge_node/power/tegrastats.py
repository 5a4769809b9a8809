"""`tegrastats`, for a Jetson whose INA3221 cannot be read directly: its lines name the rails in milliwatts.

The program is read in a thread, started again after a growing pause when it ended (`tegrastats --stop` ends every one
on the machine), and ended with the daemon; should the daemon be killed, its pipe breaks.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from edge_node.power.ina3221 import INPUT, TOTAL_RAILS
from edge_node.power.meter import Measure, Meter
from edge_node.process import end_process
from fusion.clock import Clock, SystemClock
from fusion.errors import UnavailableError

FIRST_LINE_S = 3.0
STALE_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Before a program that ended is started again: doubled each time, and begun anew by one that ran that long."""
_END_S = 2.0
_LONGEST_LINE = 1 << 16
_RAIL = re.compile(r"\b([A-Z0-9][A-Z0-9_]*) (\d{1,9})(?:mW)?/(\d{1,9})(?:mW)?(?= |$)")


def parse_rails(line: str) -> dict[str, float]:
    """Watts by rail in a line such as `... VDD_IN 5032mW/4988mW VDD_SOC 1424mW/1420mW`, of now and not the average.

    Older releases leave the unit out; memory (`RAM 1024/7764MB`) does not look like a rail.
    """
    return {name: int(now) / 1e3 for name, now, _ in _RAIL.findall(line.strip())}


class Tegrastats:
    """Runs `command` and keeps the newest line's value of `rail` (empty: the board's input)."""

    def __init__(self, command: Sequence[str], rail: str = "", *, clock: Clock | None = None) -> None:
        self._wanted = (rail,) if rail else TOTAL_RAILS
        self.name = f"tegrastats {rail or 'input rail'}"
        self.covers = f"the rail {rail}" if rail else INPUT
        self._clock = clock or SystemClock()
        self._newest: tuple[int, float] | None = None
        self._rails: tuple[str, ...] = ()
        self._heard = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._command = list(command)
        self._process = self._begin()
        self._thread = threading.Thread(target=self._run, name="tegrastats", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float = FIRST_LINE_S) -> None:
        """Until the first line; raises `UnavailableError` when none comes or it does not name the rail."""
        self._heard.wait(timeout_s)
        self.read(self._clock.monotonic_ns())

    def read(self, now_ns: int) -> Measure:
        """See `Meter`. A line older than three seconds is no longer what is drawn."""
        newest = self._newest
        if newest is None:
            told = f"its lines name {', '.join(self._rails)}" if self._rails else "it has told nothing yet"
            raise UnavailableError(f"tegrastats: no {' or '.join(self._wanted)}; {told}")
        if now_ns - newest[0] > STALE_S * 1e9:
            code = self._process.poll()
            ended = "" if code is None else f", it ended with code {code}"
            raise UnavailableError(f"tegrastats: no line for {(now_ns - newest[0]) / 1e9:.0f} s{ended}")
        return Measure(newest[1])

    def close(self) -> None:
        """End the program."""
        with self._starting:
            self._stop.set()
        end_process(self._process)
        self._thread.join(_END_S)

    def _begin(self) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise UnavailableError(f"tegrastats: {self._command[0]} cannot be started ({error.strerror})") from None

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        running: subprocess.Popen[str] | None = self._process
        while True:
            began_ns = self._clock.monotonic_ns()
            if running:
                self._listen(running)
            if self._clock.monotonic_ns() - began_ns > LONGEST_PAUSE_S * 1e9:
                pause_s = FIRST_PAUSE_S
            if self._stop.wait(pause_s):
                return
            running = self._begin_again()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _begin_again(self) -> subprocess.Popen[str] | None:
        """The program started, where that can be done now and is still wanted."""
        with self._starting, contextlib.suppress(UnavailableError):  # `read` goes on telling how the last one ended
            if not self._stop.is_set():
                self._process = self._begin()
                return self._process
        return None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Take the program's lines until it ends."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in iter(lambda: lines.readline(_LONGEST_LINE), ""):
                rails = parse_rails(line)
                self._rails = tuple(rails)
                if name := next((name for name in self._wanted if name in rails), None):
                    self._newest = (self._clock.monotonic_ns(), rails[name])
                    self.name = f"tegrastats {name}"
                self._heard.set()
        process.wait()
        self._heard.set()


def find_tegrastats(root: Path, rail: str = "", *, period_s: float = 1.0) -> Meter | None:
    """The running program; None where there is none. Raises `UnavailableError` when it does not tell the rail."""
    program = root / "usr/bin/tegrastats"
    if not program.is_file():
        if rail:
            raise UnavailableError(f"tegrastats: {program} is not there")
        return None
    meter = Tegrastats([str(program), "--interval", str(max(100, round(period_s * 1e3)))], rail)
    try:
        meter.wait()
    except UnavailableError:
        meter.close()
        raise
    return meter
