"""How far a whole run is: bars on a terminal, a line now and then elsewhere, or nothing.

The rate is recorded time by passed time, over all workers. What is left is known of recordings that were opened, and
guessed of the others: as long as those on average.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from replay.running.workers.watch import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_EVERY_S = 10.0


class Board(Protocol):
    """Where a run says how far it is."""

    def told(self, worker: int, progress: Progress) -> None:
        """A worker is so far."""

    def idle(self, worker: int) -> None:
        """A worker is at nothing."""

    def ended(self, job: str, failure: str = "") -> None:
        """A recording came to its end, or failed; of a run's only one whoever runs it tells why."""

    def note(self, text: str) -> None:
        """Something that went wrong."""

    def remark(self, text: str) -> None:
        """Something that a person may like to know."""

    def close(self) -> None:
        """The run is over."""


@dataclass(slots=True)
class Tally:
    """Adds up a run of `jobs` recordings; times are of any clock in seconds."""

    jobs: int
    began_s: float
    ended: int = 0
    failed: int = 0
    _done_s: dict[str, float] = field(default_factory=dict)
    _total_s: dict[str, float] = field(default_factory=dict)

    def told(self, progress: Progress) -> None:
        """A recording is so far."""
        if progress.total_s > 0:
            self._done_s[progress.job], self._total_s[progress.job] = progress.done_s, progress.total_s

    def end(self, job: str, *, failed: bool) -> None:
        """A recording came to its end."""
        self.ended += 1
        self.failed += failed
        if job in self._total_s:
            self._total_s[job] = self._done_s[job] = self._done_s[job] if failed else self._total_s[job]

    @property
    def done_s(self) -> float:
        """Seconds of recorded time that are run."""
        return sum(self._done_s.values())

    @property
    def total_s(self) -> float:
        """Seconds of all recordings, those not opened yet as long as the others on average."""
        known = len(self._total_s)
        unopened = max(0, self.jobs - max(known, self.ended))
        return sum(self._total_s.values()) * (1 + unopened / known) if known else 0.0

    def rate(self, now_s: float) -> float:
        """Times real time since the beginning."""
        return self.done_s / (now_s - self.began_s) if now_s > self.began_s else 0.0

    def eta_s(self, now_s: float) -> float | None:
        """Seconds until all is run; None where nothing is known yet."""
        rate = self.rate(now_s)
        return max(0.0, self.total_s - self.done_s) / rate if rate > 0 else None

    def line(self, now_s: float) -> str:
        """All of it in a few words."""
        eta = self.eta_s(now_s)
        words = [f"{self.ended}/{self.jobs} recordings"]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{self.done_s:.0f} of {self.total_s:.0f} s", f"{self.rate(now_s):.1f} x real time"]
        return ", ".join([*words, f"{clock(eta)} left"] if eta is not None and self.ended < self.jobs else words)


def clock(seconds: float) -> str:
    """`h:mm:ss`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Silent:
    """Says nothing but what went wrong."""

    def __init__(self, jobs: int, stream: TextIO | None = None) -> None:
        self._several, self._stream = jobs > 1, stream or sys.stderr

    def told(self, worker: int, progress: Progress) -> None:
        """See `Board`."""

    def idle(self, worker: int) -> None:
        """See `Board`."""

    def ended(self, job: str, failure: str = "") -> None:
        """See `Board`."""
        if failure and self._several:
            self.note(f"{job}: {failure}")

    def note(self, text: str) -> None:
        """See `Board`."""
        print(text, file=self._stream, flush=True)

    def remark(self, text: str) -> None:
        """See `Board`."""

    def close(self) -> None:
        """See `Board`."""


class Lines(Silent):
    """A line every ten seconds, and one for each recording that ends: for logs."""

    def __init__(self, jobs: int, stream: TextIO | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(jobs, stream)
        self._now_s = now_s
        self._tally = Tally(jobs, now_s())
        self._due_s = now_s() + LINE_EVERY_S

    def told(self, worker: int, progress: Progress) -> None:
        """See `Board`."""
        del worker
        self._tally.told(progress)
        if self._now_s() >= self._due_s:
            self._say()

    def ended(self, job: str, failure: str = "") -> None:
        """See `Board`."""
        super().ended(job, failure)
        self._tally.end(job, failed=bool(failure))
        if self._tally.ended == self._tally.jobs or self._now_s() >= self._due_s:
            self._say()

    def remark(self, text: str) -> None:
        """See `Board`."""
        self.note(text)

    def _say(self) -> None:
        now = self._now_s()
        self._due_s = now + LINE_EVERY_S
        self.note(self._tally.line(now))


class Bars:
    """A bar for all of the run, and a line for each worker under it."""

    def __init__(self, jobs: int, stream: TextIO | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._now_s, self._tally = now_s, Tally(jobs, now_s())
        self._rows: dict[int, TaskID] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
        self._bars: Any = RichProgress(
            *columns, console=Console(file=stream or sys.stderr, force_terminal=True), transient=True
        )
        self._all: TaskID = self._bars.add_task("run", total=None, told="")
        self._bars.start()

    def told(self, worker: int, progress: Progress) -> None:
        """See `Board`."""
        self._tally.told(progress)
        if worker not in self._rows:
            self._rows[worker] = self._bars.add_task("", total=None, told="")
        known = progress.total_s or None
        told = f"{progress.doing}, {progress.done_s:.0f} of {progress.total_s:.0f} s" if known else progress.doing
        self._bars.update(
            self._rows[worker], description=f"  {progress.job}", total=known, completed=progress.done_s, told=told
        )
        self._show()

    def idle(self, worker: int) -> None:
        """See `Board`."""
        self._bars.update(self._rows[worker], description="  -", total=1, completed=0, told="idle")

    def ended(self, job: str, failure: str = "") -> None:
        """See `Board`."""
        self._tally.end(job, failed=bool(failure))
        if failure and self._tally.jobs > 1:
            self.note(f"{job}: {failure}")
        self._show()

    def note(self, text: str) -> None:
        """See `Board`."""
        self._bars.console.print(text, markup=False, highlight=False)

    def remark(self, text: str) -> None:
        """See `Board`."""
        self.note(text)

    def close(self) -> None:
        """See `Board`."""
        self._bars.stop()
        self._bars.console.print(self._tally.line(self._now_s()), markup=False, highlight=False)

    def _show(self) -> None:
        told = self._tally.line(self._now_s())
        self._bars.update(self._all, total=self._tally.total_s or None, completed=self._tally.done_s, told=told)


@contextmanager
def board(jobs: int, *, quiet: bool = False) -> Iterator[Board]:
    """The board for this place: bars on a terminal, else lines, or with `quiet` nothing but what went wrong."""
    made: Board = Silent(jobs) if quiet else Bars(jobs) if sys.stderr.isatty() else Lines(jobs)
    try:
        yield made
    finally:
        made.close()
