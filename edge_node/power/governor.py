"""When to shift: a pure decision of time, watts and degrees, so that tests need no sleeping and replay no device.

Down one gear when a limit has been exceeded for `react_s`; up one gear when all that is limited has been below the
share `release` of its limit for `recover_s`. Between the two, nothing happens: that band and the times keep it from
hunting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from edge_node.settings.power import PowerSettings


class Cause(StrEnum):
    """What a gear was left for; the text is the reason of the gaps it makes."""

    NONE = ""
    POWER = "over the power budget"
    HEAT = "over the temperature limit"


@dataclass(slots=True)
class _Bound:
    """One limit and since when it has been exceeded, or kept with room (monotonic nanoseconds)."""

    most: float
    room_below: float
    over_ns: int | None = None
    calm_ns: int | None = None
    known: bool = False

    def see(self, now_ns: int, value: float | None) -> None:
        """Take a reading. One that failed forgets no excess, and is no sign of calm."""
        self.known = value is not None
        if value is None:
            self.calm_ns = None
        elif value > self.most:
            self.over_ns = now_ns if self.over_ns is None else self.over_ns
            self.calm_ns = None
        else:
            self.over_ns = None
            calm_ns = now_ns if self.calm_ns is None else self.calm_ns
            self.calm_ns = calm_ns if value <= self.room_below else None


@dataclass(slots=True)
class Governor:
    """Chooses among `gears`, 0 the highest; `cause` is why the gear is not the highest."""

    gears: int
    react_ns: int
    recover_ns: int
    bounds: dict[Cause, _Bound]
    gear: int = 0
    cause: Cause = Cause.NONE
    _changed_ns: int | None = field(default=None)

    @classmethod
    def of(cls, settings: PowerSettings) -> Governor | None:
        """The governor that the settings ask for; None when they set no limit or have nothing to shift."""
        if not settings.governed:
            return None
        limits = {Cause.POWER: settings.budget_watts, Cause.HEAT: settings.limit_c}
        bounds = {cause: _Bound(most, most * settings.release) for cause, most in limits.items() if most}
        return cls(len(settings.gears), round(settings.react_s * 1e9), round(settings.recover_s * 1e9), bounds)

    def update(self, now_ns: int, watts: float | None, celsius: float | None) -> int:
        """The gear from now on; None is what is not known. Without knowledge of what is limited the gear stays."""
        values = {Cause.POWER: watts, Cause.HEAT: celsius}
        for cause, bound in self.bounds.items():
            bound.see(now_ns, values[cause])
        if (cause := self._exceeded(now_ns)) and self.gear < self.gears - 1:
            self._shift(now_ns, 1)
            self.cause = cause
        elif self.gear and self._calm(now_ns):
            self._shift(now_ns, -1)
            self.cause = self.cause if self.gear else Cause.NONE
        return self.gear

    def _exceeded(self, now_ns: int) -> Cause:
        for cause, bound in self.bounds.items():
            if bound.known and bound.over_ns is not None and self._lasted(now_ns, bound.over_ns) >= self.react_ns:
                return cause
        return Cause.NONE

    def _calm(self, now_ns: int) -> bool:
        since = [bound.calm_ns for bound in self.bounds.values()]
        return all(s is not None and self._lasted(now_ns, s) >= self.recover_ns for s in since)

    def _lasted(self, now_ns: int, since_ns: int) -> int:
        """For how long something holds, counted from the last shift at the earliest."""
        return now_ns - max(since_ns, self._changed_ns if self._changed_ns is not None else since_ns)

    def _shift(self, now_ns: int, by: int) -> None:
        self.gear += by
        self._changed_ns = now_ns


@dataclass(slots=True)
class Smoothed:
    """An exponential mean with the time constant `over_s`: between two frames a device draws little, in one much."""

    over_s: float
    _value: float | None = None
    _at_ns: int = 0

    def add(self, now_ns: int, value: float | None) -> float | None:
        """The mean with `value` in it; one that is not known begins anew."""
        if value is None or self._value is None:
            self._value = value
        else:
            self._value += (value - self._value) * -math.expm1((self._at_ns - now_ns) / 1e9 / self.over_s)
        self._at_ns = now_ns
        return self._value
