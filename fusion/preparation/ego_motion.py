"""How the vehicle moved: its known places in time, and every place between them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from fusion.errors import InputError
from fusion.geometry import invert, rigid
from fusion.types import Float64Array

_SMALL_RAD = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class EgoMotion:
    """Where the ego frame was: `map_from_ego[i]` (4, 4), metres, at `times_ns[i]`, which rise strictly."""

    times_ns: tuple[int, ...] = ()
    map_from_ego: tuple[Float64Array, ...] = ()

    @classmethod
    def of(cls, places: Iterable[tuple[int, Float64Array]]) -> Self:
        """From (nanoseconds, (4, 4)) in any order; of two at one time the first counts.

        Raises `InputError` for a place that is no (4, 4) of finite numbers.
        """
        known: dict[int, Float64Array] = {}
        for time_ns, place in places:
            if place.shape != (4, 4) or not np.isfinite(place).all():
                raise InputError(f"the ego pose at {time_ns} ns is no (4, 4) of finite numbers; leave it out")
            known.setdefault(time_ns, place)
        times = sorted(known)
        return cls(tuple(times), tuple(known[time_ns] for time_ns in times))

    def at(self, time_ns: int) -> Float64Array | None:
        """`map_from_ego` (4, 4) at a time, None before the first known place and after the last.

        Between two places the translation is linear and the rotation turns evenly about one axis, the shorter way
        round (Shoemake 1985, slerp).
        """
        after = bisect_left(self.times_ns, time_ns)
        if after < len(self.times_ns) and self.times_ns[after] == time_ns:
            return self.map_from_ego[after]
        if after in {0, len(self.times_ns)}:
            return None
        start, end = self.map_from_ego[after - 1], self.map_from_ego[after]
        first, last = self.times_ns[after - 1], self.times_ns[after]
        return _between(start, end, (time_ns - first) / (last - first))

    def moved(self, to_ns: int, from_ns: int) -> Float64Array | None:
        """`ego_to_from_ego_from` (4, 4): takes points of the ego frame at `from_ns` to the one at `to_ns`.

        None where the recording does not tell one of the two; the same time needs no telling.
        """
        if to_ns == from_ns:
            return np.eye(4)
        to, origin = self.at(to_ns), self.at(from_ns)
        return None if to is None or origin is None else invert(to) @ origin


def axis_rotation(vector: Float64Array) -> Float64Array:
    """The (3, 3) rotation about `vector` (3,) by its length in radians (Rodrigues 1840)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def rotation_vector(rotation: Float64Array) -> Float64Array:
    """The axis of a (3, 3) rotation, as long as its angle in radians, 0..pi: (3,)."""
    turn = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = float(np.linalg.norm(turn)) / 2, (np.trace(rotation) - 1) / 2
    angle = np.arctan2(sine, cosine)
    if sine > _SMALL_RAD:
        return np.asarray(turn / (2 * sine) * angle)
    if cosine > 0:
        return turn / 2
    axis = np.linalg.eigh((rotation + rotation.T) / 2)[1][:, -1]  # half a turn: the axis is what stays
    return np.asarray(axis * angle)


def _between(start: Float64Array, end: Float64Array, share: float) -> Float64Array:
    turned = axis_rotation(share * rotation_vector(start[:3, :3].T @ end[:3, :3]))
    return rigid(start[:3, :3] @ turned, (1 - share) * start[:3, 3] + share * end[:3, 3])
