"""Where the cart of a patrol drives, and what may stand beside its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fusion.simulation.draws import Draws
from fusion.simulation.scene import pose
from fusion.simulation.stock import CLEARANCE
from fusion.simulation.thing import Thing
from fusion.types import Float64Array

_CART_HALF_M = 0.55
_WIDEST_M = 1.4
_BEND_M = 4.5
_LOOSE_CLEARANCE_M = 0.8


@dataclass(slots=True)
class Route:
    """A way along the lane: `speed` in m/s, weaving `sway` metres every `period` metres, and round what obstructs it.

    `dodges` holds where along x (metres) and how far sideways the cart gives way.
    """

    speed: float
    sway: float
    period: float
    dodges: list[tuple[float, float]] = field(default_factory=list)

    def sideways(self, x: float) -> float:
        """The cart's y in metres when it is at `x`."""
        around = sum(y * np.exp(-(((x - at) / _BEND_M) ** 2)) for at, y in self.dodges)
        return float(self.sway * np.sin(2 * np.pi * x / self.period) + around)

    def at(self, time_s: float) -> Float64Array:
        """The cart's 4x4 pose in the yard after `time_s` seconds."""
        x, step = self.speed * time_s, 0.2
        yaw = np.arctan2(self.sideways(x + step) - self.sideways(x - step), 2 * step)
        return pose(x, self.sideways(x), float(yaw))

    def allows(self, thing: Thing, others: Sequence[Thing]) -> bool:
        """Whether the cart can still get by if `thing` stands where it is; then the way bends round it."""
        bent = self
        if thing.condition == "obstructing":
            aside = thing.y - np.copysign(CLEARANCE[thing.label] + _CART_HALF_M, thing.y)
            bent = replace(self, dodges=[*self.dodges, (thing.x, aside - self.sideways(thing.x))])
        if not all(bent.clears(other) for other in (thing, *others)):
            return False
        self.dodges = bent.dodges
        return True

    def clears(self, thing: Thing) -> bool:
        """Whether the cart passes a thing without touching it, and without leaving the lane."""
        room = CLEARANCE.get(thing.label, _LOOSE_CLEARANCE_M) + _CART_HALF_M - 0.1
        reach = 1.0 + thing.stroll[0]
        passing = [self.sideways(thing.x + ahead) for ahead in (-reach, 0.0, reach)]
        return all(abs(y - thing.y) >= room and abs(y) <= _WIDEST_M for y in passing)


def draw_route(draws: Draws) -> Route:
    """A way that weaves as much as the carts of single scenes stand aside."""
    return Route(draws.uniform(0.85, 1.15), draws.uniform(0.15, 0.45), draws.uniform(18.0, 30.0))
