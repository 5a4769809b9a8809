"""What a lens does to a picture: OpenCV's plumb-bob and rational distortion, how far out it holds, and its inverse.

Coordinates are those of the plane one metre before the camera: x right, y down, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import polynomial

from fusion.types import Float64Array

_ITERATIONS = 50
_EXACT = 1e-13
_FLATTEST = 1e-9
_REAL = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """Eight `terms` k1 k2 p1 p2 k3 k4 k5 k6 in OpenCV's order. Use `lens_of`, which keeps what follows from them.

    `limit` is the radius up to which the distorted radius grows with the true one, inf where it always does: farther
    out the terms describe no lens, and what lies there would fold back into the picture. `growth` over `below`
    squared is the derivative of the distorted radius by the true one; both are coefficients by powers of r².
    """

    terms: tuple[float, ...]
    limit: float
    growth: Float64Array
    below: Float64Array

    def distort(self, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Where the lens puts what lies at (x, y), each (N,)."""
        _, _, p1, p2, *_ = self.terms
        r2 = x * x + y * y
        radial = self._radial(r2)
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def undistort(self, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
        """What the lens puts at (x, y), each (N,); at the radius `limit` where nothing within it is put there.

        As in OpenCV's undistortPoints what the tangential terms do is taken off over and over; the radius takes a
        Newton step each time, which converges up to the limit.
        """
        _, _, p1, p2, *_ = self.terms
        found = wanted = np.stack([x, y])
        radius = np.minimum(np.hypot(x, y), self.limit)
        for _ in range(_ITERATIONS):
            r2, product = found[0] ** 2 + found[1] ** 2, 2 * found[0] * found[1]
            aside = p1 * product + p2 * (r2 + 2 * found[0] ** 2)
            down = p1 * (r2 + 2 * found[1] ** 2) + p2 * product
            wanted = np.stack([x - aside, y - down])
            reach, r2 = np.hypot(*wanted), radius * radius
            slope = polynomial.polyval(r2, self.growth) / polynomial.polyval(r2, self.below) ** 2
            step = (radius * self._radial(r2) - reach) / np.maximum(slope, _FLATTEST)
            radius = np.clip(radius - step, 0.0, self.limit)
            before, found = found, wanted * (radius / np.maximum(reach, np.finfo(np.float64).tiny))
            if np.abs(found - before).max(initial=0.0) < _EXACT:
                break
        return found[0], found[1]

    def _radial(self, r2: Float64Array) -> Float64Array:
        k1, k2, _, _, k3, k4, k5, k6 = self.terms
        return np.asarray((1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6))))


@lru_cache(maxsize=256)
def lens_of(terms: tuple[float, ...]) -> Lens:
    """The lens of 4, 5 or 8 finite terms."""
    terms += (0.0,) * (8 - len(terms))
    k1, k2, _, _, k3, k4, k5, k6 = terms
    above, below = np.array([1.0, k1, k2, k3]), np.array([1.0, k4, k5, k6])
    grows = polynomial.polymul(above * [1.0, 3.0, 5.0, 7.0], below)
    growth = polynomial.polysub(grows, polynomial.polymul(above, below * [0.0, 2.0, 4.0, 6.0]))
    roots = np.concatenate([polynomial.polyroots(np.trim_zeros(part, "b")) for part in (growth, below)])
    ends = roots.real[(np.abs(roots.imag) < _REAL) & (roots.real > 0)]
    return Lens(terms, math.sqrt(ends.min()) if ends.size else math.inf, growth, below)
