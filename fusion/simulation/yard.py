"""A yard: its ground, what stands in it, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fusion.simulation import stock
from fusion.simulation.backdrop import clutter, draw_backdrop
from fusion.simulation.draws import Draws
from fusion.simulation.ground import Ground, Puddle, draw_ground
from fusion.simulation.light import Lighting, draw_lighting
from fusion.simulation.thing import Thing

_CLASSES = {"drum": 0.32, "pallet": 0.14, "crate": 0.2, "cone": 0.14, "person": 0.1, "forklift": 0.1}
_TRIES = 60


@dataclass(frozen=True, slots=True, eq=False)
class Yard:
    """The yard frame has x along the lane and y = 0 in its middle. `objects` are the task's, `backdrop` the rest."""

    ground: Ground
    lighting: Lighting
    objects: tuple[Thing, ...]
    backdrop: tuple[Thing, ...]

    @property
    def things(self) -> list[Thing]:
        """Objects first, then the backdrop."""
        return [*self.objects, *self.backdrop]


@dataclass(frozen=True, slots=True)
class Plot:
    """A stretch of the yard between `start` and `end` along the lane, what to put there, and where that is allowed.

    `allows` sees a thing where it might stand and what stands there already. A `crowding` above 1 draws the
    objects towards the start.
    """

    start: float
    end: float
    labels: Sequence[str]
    allows: Callable[[Thing, Sequence[Thing]], bool]
    crowding: float = 1.8


def build(draws: Draws, plots: Sequence[Plot], *, moving: bool) -> Yard:
    """A yard with the objects of each plot (fewer if there is no room), clutter, and a backdrop around all of them."""
    lighting = draw_lighting(draws)
    ground = draw_ground(draws, wet=lighting.rain)
    placed: list[Thing] = []
    for plot in plots:
        for label in plot.labels:
            thing = stock.make(draws, label, draws.weighted(stock.CONDITIONS[label]))
            if moving and label in ("person", "forklift") and draws.chance(0.7):
                thing.stroll = (draws.uniform(0.4, 1.0), draws.uniform(6, 10))
            if _place(draws, plot, ground, thing, placed):
                thing.track = len(placed) + 1
                placed.append(thing)
    start, end = plots[0].start, plots[-1].end
    backdrop = draw_backdrop(draws, start - 4, end + draws.uniform(4, 10))
    for number in range(int(draws.rng.integers(0, 3 + int((end - start) / 8)))):
        piece = clutter(draws)
        if _place(draws, plots[number % len(plots)], ground, piece, placed + backdrop):
            backdrop.append(piece)
    puddles = [puddle for plot in plots for puddle in _water(draws, plot)] + _leaks(draws, placed)
    return Yard(replace(ground, puddles=tuple(puddles)), lighting, tuple(placed), tuple(backdrop))


def draw_labels(draws: Draws, count: int) -> list[str]:
    """Classes of `count` objects, often two or three of one kind."""
    labels: list[str] = []
    while len(labels) < count:
        if labels and draws.chance(0.38):
            labels.append(labels[-1])
        else:
            labels.append(draws.weighted(_CLASSES))
    return labels


def _place(draws: Draws, plot: Plot, ground: Ground, thing: Thing, others: Sequence[Thing]) -> bool:
    clearance = stock.CLEARANCE.get(thing.label, 0.8)
    close_by = draws.chance(0.4)
    half = ground.lane.width / 2
    for _ in range(_TRIES):
        thing.x = plot.start + (plot.end - plot.start) * draws.rng.random() ** plot.crowding
        if thing.condition == "obstructing":
            reach = half - 0.4
            thing.y = draws.uniform(-reach, reach)
        else:
            side = 1.0 if draws.chance(0.5) else -1.0
            gap = draws.uniform(0.05, 0.5) if close_by else draws.uniform(0.2, 5.0)
            thing.y = side * (half + gap + clearance * (0.75 if close_by else 1.0))
        thing.yaw = _facing(draws, thing)
        if plot.allows(thing, others) and _free(thing, clearance, others) and _rightly_in_lane(ground, thing):
            return True
    return False


def _facing(draws: Draws, thing: Thing) -> float:
    if thing.stroll[0] > 0:
        return 0.0 if draws.chance(0.5) else np.pi
    if thing.label in ("person", "forklift") or thing.condition == "toppled":
        return draws.uniform(-np.pi, np.pi)
    viewed_from = draws.uniform(4, 9)
    return float(np.arctan2(thing.y, viewed_from)) + draws.uniform(-0.4, 0.4)


def _free(thing: Thing, clearance: float, others: Sequence[Thing]) -> bool:
    for other in others:
        apart = clearance + stock.CLEARANCE.get(other.label, 0.6) + thing.stroll[0] + other.stroll[0]
        if np.hypot(thing.x - other.x, thing.y - other.y) < apart:
            return False
    return True


def _rightly_in_lane(ground: Ground, thing: Thing) -> bool:
    """Whether all of a thing's footprint keeps out of the lane, or its middle is well inside if it obstructs."""
    if thing.condition == "obstructing":
        return True
    low, high = thing.extent()
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    y = thing.y + corners @ np.array([np.sin(thing.yaw), np.cos(thing.yaw)])
    edge = ground.lane.width / 2 + ground.lane.line_width
    return bool((y > edge).all() or (y < -edge).all())


def _water(draws: Draws, plot: Plot) -> list[Puddle]:
    count = int(draws.rng.integers(0, 4))
    return [
        Puddle(draws.uniform(plot.start, plot.end), draws.uniform(-6, 6), draws.held(0.3, 0.9), None)
        for _ in range(count)
    ]


def _leaks(draws: Draws, placed: Sequence[Thing]) -> list[Puddle]:
    """What has run out of leaking drums; and water before some sound ones, which is no leak."""
    puddles: list[Puddle] = []
    for thing in placed:
        radius, ahead = draws.held(0.38, 0.7), draws.uniform(0.25, 0.45)
        direction = thing.yaw + np.pi + draws.uniform(-0.4, 0.4)
        x, y = thing.x + ahead * np.cos(direction), thing.y + ahead * np.sin(direction)
        if thing.leaks is not None:
            puddles.append(Puddle(x, y, radius, thing.leaks))
        elif thing.label == "drum" and thing.condition == "ok" and draws.chance(0.2):
            puddles.append(Puddle(x, y, radius, None))
            thing.nuisance = f"{thing.nuisance} puddle".strip()
    return puddles
