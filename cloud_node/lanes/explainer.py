"""Has a reviewer write why, one verdict at a time, when no batch is due."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum

from cloud_node.job import Job
from cloud_node.lanes.reviewer import BatchReviewer
from fusion.clock import Clock
from fusion.types import SlotAnswer

_log = logging.getLogger(__name__)

PATIENCE_NS = 250_000_000
"""How long an item may wait for its review because a rationale is being written; then the rationale is given up."""


class How(StrEnum):
    """What became of a wanted rationale. A verdict never fails for want of one."""

    WRITTEN = "written"
    BUSY = "busy"
    """Items waited for a review."""

    LATE = "late"
    """The deadline, or `rationale_wait_ms`, was over."""

    NOTHING = "nothing"
    """The reviewer had nothing to say: it had read nothing."""

    FAILED = "failed"


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A verdict that waits for its rationale until `until_ns` on the monotonic clock."""

    job: Job
    answers: Mapping[str, SlotAnswer]
    until_ns: int


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a wanted rationale."""

    wanted: Wanted
    text: str
    how: How


class Explainer:
    """Verdicts that wait for their rationale. `predict_ns` says how long a batch of so many tokens takes."""

    def __init__(self, tokens: int, executor: Executor, clock: Clock, predict_ns: Callable[[int], int]) -> None:
        self._tokens = tokens
        self._executor = executor
        self._clock = clock
        self._predict_ns = predict_ns
        self._wanted: deque[Wanted] = deque()
        self._hold_until_ns: int | None = None

    def ask(self, wanted: Wanted) -> None:
        """Let a verdict wait."""
        self._wanted.append(wanted)

    def hurry(self, job: Job) -> None:
        """A rationale that is being written must not hold a job up for long, nor beyond what its deadline bears."""
        until_ns = self._clock.monotonic_ns() + PATIENCE_NS
        if job.deadline_ns is not None:
            until_ns = min(until_ns, job.deadline_ns - 2 * self._predict_ns(job.tokens))
        self._hold_until_ns = until_ns if self._hold_until_ns is None else min(self._hold_until_ns, until_ns)

    def give_up(self) -> list[Written]:
        """A batch is due: what waits goes without."""
        without = [Written(wanted, "", How.BUSY) for wanted in self._wanted]
        self._wanted.clear()
        return without

    def next(self, *, quiet: bool) -> Wanted | None:
        """Whose turn it is, None when nobody waits; `quiet` says that no item waits for a review."""
        if quiet:
            self._hold_until_ns = None
        return self._wanted.popleft() if self._wanted else None

    async def write(self, wanted: Wanted, reviewer: BatchReviewer) -> Written:
        """Have `reviewer` write. Never raises for what it does."""
        assert wanted.job.evidence is not None
        if (how := self._why_not(wanted)) is not None:
            return Written(wanted, "", how)
        given = wanted.job.evidence, wanted.answers, self._tokens, lambda: self._why_not(wanted) is None
        try:
            text = await asyncio.get_running_loop().run_in_executor(self._executor, reviewer.explain, *given)
        except Exception:  # noqa: BLE001 a verdict never fails for want of a reason
            _log.exception("%s cannot say why of %s", reviewer.reviewer.name, wanted.job.item)
            return Written(wanted, "", How.FAILED)
        return Written(wanted, text, How.WRITTEN if text else self._why_not(wanted) or How.NOTHING)

    def _why_not(self, wanted: Wanted) -> How | None:
        now_ns, hold_ns = self._clock.monotonic_ns(), self._hold_until_ns
        if now_ns >= wanted.until_ns:
            return How.LATE
        return How.BUSY if hold_ns is not None and now_ns >= hold_ns else None
