"""Which recording is run next, again, or no more: decisions without processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fusion.errors import FusionError
from replay.running.plan import Job
from replay.running.workers.failure import LostWorkerError

ATTEMPTS = 2
"""Workers that may die at the same recording before it is given up."""


class Dispatch:
    """Jobs in the plan's order; one whose worker died is next again, once."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(jobs)
        self._running: dict[str, Job] = {}
        self._lost: dict[str, int] = {}
        self.failures: dict[str, FusionError] = {}

    @property
    def over(self) -> bool:
        """Whether every job came to an end."""
        return not self._waiting and not self._running

    def next(self) -> Job | None:
        """The job that a free worker takes now; None when there is none left to give."""
        if not self._waiting:
            return None
        job = self._waiting.popleft()
        self._running[job.name] = job
        return job

    def done(self, name: str) -> None:
        """It was run to its end."""
        del self._running[name]

    def failed(self, name: str, error: FusionError) -> None:
        """It cannot be run; another try would say the same."""
        del self._running[name]
        self.failures[name] = error

    def lost(self, name: str, reason: str) -> bool:
        """Its worker died; whether it is tried again."""
        job = self._running.pop(name)
        self._lost[name] = self._lost.get(name, 0) + 1
        if self._lost[name] < ATTEMPTS:
            self._waiting.appendleft(job)
            return True
        self.failures[name] = LostWorkerError(
            f"{job.source}: {self._lost[name]} workers died at it (the last: {reason}); "
            "look for memory that ran out, or run it alone with --workers 1"
        )
        return False
