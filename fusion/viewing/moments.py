"""Which moments of a recording are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fusion.errors import ConfigError


@dataclass(slots=True)
class Choice:
    """Picks moments as they come, in the order of time: `due_s` on, then one every `every_s` seconds, `left` at most.

    Seconds count from the recording's first reading. `every_s` 0 takes every moment, `left` None has no end.
    """

    due_s: float = 0.0
    every_s: float = 0.0
    left: int | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""
        return self.left is not None and self.left <= 0

    def picks(self, at_s: float) -> bool:
        """Whether the moment at `at_s` is wanted; counts it if so."""
        if self.done or at_s < self.due_s - 1e-6:
            return False
        if self.every_s > 0:
            self.due_s += self.every_s * (math.floor((at_s + 1e-6 - self.due_s) / self.every_s) + 1)
        if self.left is not None:
            self.left -= 1
        return True


def choice_of(*, at_s: float | None, every_s: float | None, limit: int | None, single: bool) -> Choice:
    """What the options ask for; `single` when there is place for one picture only. Raises `ConfigError`."""
    for name, value in (("--at", at_s), ("--every", every_s), ("--limit", limit)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} {value:g}: give a number that is not negative")
    if limit == 0:
        raise ConfigError("--limit 0: nothing to do; give 1 or more")
    if single and (every_s is not None or (limit or 1) > 1):
        raise ConfigError("several moments do not go into one picture; give -o a folder")
    one = single or at_s is not None
    return Choice(at_s or 0.0, every_s or 0.0, 1 if one else limit)
