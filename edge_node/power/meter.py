"""What reads power: one Protocol, the value it gives, and how files of sysfs are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fusion.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Measure:
    """One reading. `watts` is drawn now, or on average since the reading before for a meter that counts energy.

    `joules` is what a counter counted since the reading before; None for a meter without one. Both are None when a
    counter was read for the first time.
    """

    watts: float | None = None
    joules: float | None = None


class Meter(Protocol):
    """One source of power."""

    @property
    def name(self) -> str:
        """Which sensor it is, for people."""

    @property
    def covers(self) -> str:
        """What draws the power, for people."""

    def read(self, now_ns: int) -> Measure:
        """Read it at the monotonic time `now_ns`. Raises `UnavailableError` naming what cannot be read and why."""

    def close(self) -> None:
        """Let go of what was opened; may be called twice."""


def read_text(path: Path) -> str:
    """A small file without its line end. Raises `UnavailableError` with the path and the system's reason."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\n\0 ")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UnavailableError(f"{path}: {reason.lower()}") from None


def read_number(path: Path) -> int:
    """The whole number in a file, in the file's own unit. Raises `UnavailableError`, also for something else in it."""
    text = read_text(path)
    try:
        return int(text.split()[0])
    except (ValueError, IndexError):
        raise UnavailableError(f"{path}: {text[:40]!r} is no number") from None
