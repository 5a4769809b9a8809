"""Stamps of message headers as capture times, for hosts that share one clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fusion.synchronization import JUMP_NS

AHEAD_NS = 50_000_000
"""How far a stamp may be ahead of its message's arrival, for clocks that are not quite one."""


@dataclass(slots=True)
class HeaderStamps:
    """Which stamps of a stream can be meant; those that cannot are counted by `dropped`, by reason."""

    dropped: Callable[[str, int], None]
    _last_ns: int = 0

    def meant(self, stamp_ns: int, arrived_ns: int) -> bool:
        """Whether the stamp of a message that arrived at `arrived_ns` (both since 1970) is a capture time."""
        why = self._objection(stamp_ns, arrived_ns)
        if why:
            self.dropped(why, 1)
        else:
            self._last_ns = stamp_ns
        return not why

    def _objection(self, stamp_ns: int, arrived_ns: int) -> str:
        if not stamp_ns:
            return "no stamp"
        if stamp_ns > arrived_ns + AHEAD_NS:
            return "a stamp in the future"
        if stamp_ns < arrived_ns - JUMP_NS:
            return "a stamp of long ago"
        if self._last_ns - JUMP_NS <= stamp_ns <= self._last_ns:  # farther back: the host's clock was set
            return "a stamp that repeats or goes back"
        return ""
