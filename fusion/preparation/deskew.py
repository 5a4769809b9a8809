"""A sweep as if all its points had been measured at one moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.geometry import apply, invert
from fusion.preparation.ego_motion import EgoMotion, rotation_vector
from fusion.types import Float64Array


def deskewed(points: Float64Array, times_ns: NDArray[np.int64], to_ns: int, motion: EgoMotion) -> Float64Array | None:
    """Points (n, 3) of the ego frame each at its own time (n,) → the ego frame at `to_ns`, metres.

    Between two places the frame moves as in `EgoMotion.at`. None where the motion does not cover `to_ns` and every
    point: a part that is left as it is would tear what is straight.
    """
    ends = (int(times_ns.min()), int(times_ns.max())) if times_ns.size else ()
    here = motion.at(to_ns)
    if here is None or any(motion.at(time_ns) is None for time_ns in ends):
        return None
    known = np.array(motion.times_ns, np.int64)
    legs = np.maximum(np.searchsorted(known, times_ns), 1)  # a leg ends at the place of its number
    placed = np.empty((len(points), 3))
    for leg in np.unique(legs):
        its = legs == leg
        if len(known) == 1:
            placed[its] = apply(motion.map_from_ego[0], points[its])
            continue
        begin, end = motion.map_from_ego[leg - 1], motion.map_from_ego[leg]
        share = (times_ns[its] - known[leg - 1]) / float(known[leg] - known[leg - 1])
        turned = _turned(points[its], rotation_vector(begin[:3, :3].T @ end[:3, :3]), share)
        placed[its] = turned @ begin[:3, :3].T + begin[:3, 3] + share[:, None] * (end[:3, 3] - begin[:3, 3])
    return apply(invert(here), placed)


def _turned(points: Float64Array, vector: Float64Array, share: Float64Array) -> Float64Array:
    """Points (n, 3) turned about `vector` (3,) by a `share` (n,) of its length in radians (Rodrigues 1840)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return points
    axis, turn = vector / angle, (share * angle)[:, None]
    along = (points @ axis)[:, None] * axis
    return np.asarray(points * np.cos(turn) + np.cross(axis, points) * np.sin(turn) + along * (1 - np.cos(turn)))
