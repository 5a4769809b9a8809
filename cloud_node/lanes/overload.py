"""Whether more comes than can be done, for longer than any queue would help."""

from __future__ import annotations

from collections.abc import Iterable


class Overload:
    """`standing` from when something is given up that came after the giving up began, until less than a batch waits.

    A burst is over by then: what it made too late had all come before. Under load that stays, those who wait are no
    more likely to be done the more of them there are, only later, as CoDel (Nichols and Jacobson, 2012) has it for
    packets.
    """

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self.standing = False

    def observe(self, now_ns: int, arrivals_ns: Iterable[int], *, backlog: bool) -> None:
        """What came at `arrivals_ns` is given up at `now_ns`, while a whole batch waits (`backlog`) or does not."""
        if not backlog:
            self._since_ns, self.standing = None, False
            return
        for arrival_ns in arrivals_ns:
            if self._since_ns is None:
                self._since_ns = now_ns
            self.standing = self.standing or arrival_ns > self._since_ns
