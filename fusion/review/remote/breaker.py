"""A circuit breaker: a server that fails again and again is left alone for a while."""

from __future__ import annotations

import logging

from fusion.clock import Clock

_log = logging.getLogger(__name__)


class Breaker:
    """Opens for `open_ns` after `failures` in a row. Then rows go one by one until one closes or reopens it."""

    def __init__(self, where: str, failures: int, open_ns: int, clock: Clock) -> None:
        self._where = where
        self._limit = failures
        self._open_ns = open_ns
        self._clock = clock
        self._failures = 0
        self._until_ns: int | None = None
        self._reason = ""

    @property
    def refusal(self) -> str | None:
        """Why nothing is asked now; None while something may be."""
        left_ns = 0 if self._until_ns is None else self._until_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            return None
        again = f"asked again in {left_ns / 1e9:.0f} s"
        return f"{self._where} failed {self._failures} times in a row, {again}: {self._reason}"

    @property
    def trying(self) -> bool:
        """Whether it was open and has not been closed since: rows should go one by one."""
        return self._until_ns is not None and self.refusal is None

    def succeeded(self) -> None:
        """The server answered."""
        if self._until_ns is not None:
            _log.warning("%s answers again", self._where)
        self._failures, self._until_ns = 0, None

    def failed(self, reason: str) -> None:
        """A row got no answer, in spite of retries."""
        self._failures += 1
        if self._failures < self._limit or self.refusal is not None:
            return
        self._until_ns, self._reason = self._clock.monotonic_ns() + self._open_ns, reason
        _log.warning("%s failed %d times in a row and is left alone: %s", self._where, self._failures, reason)
