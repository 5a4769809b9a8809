"""What metrics are made of, by unit and slice: sums over items or defects of both runs.

Memory grows with the rows, and with the units that each slice has: never with units times slices.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion.types import Float64Array
from replay.compare.slices import Slice


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One slice: the units in it, (n,), and their `sums` in the first and the second run, (2, n, width)."""

    units: NDArray[np.int64]
    sums: Float64Array


@dataclass(slots=True, eq=False)
class Sums:
    """Rows of `width` numbers; each belongs to a run (`side` 0 or 1), a unit and several slices."""

    width: int
    _sides: array[int] = field(default_factory=lambda: array("b"))
    _units: array[int] = field(default_factory=lambda: array("q"))
    _values: array[float] = field(default_factory=lambda: array("d"))
    _slices: dict[Slice, array[int]] = field(default_factory=dict)

    def add(self, side: int, unit: int, slices: Iterable[Slice], values: Sequence[float]) -> None:
        """Another row."""
        for one in slices:
            self._slices.setdefault(one, array("q")).append(len(self._units))
        self._sides.append(side)
        self._units.append(unit)
        self._values.extend(values)

    def parts(self) -> dict[Slice, Part]:
        """Rows added up by slice and unit."""
        sides, units = np.array(self._sides, np.int64), np.array(self._units, np.int64)
        values = np.array(self._values, np.float64).reshape(-1, self.width)
        return {one: _part(sides[rows], units[rows], values[rows]) for one, rows in self._slices.items()}


def _part(sides: NDArray[np.int64], units: NDArray[np.int64], values: Float64Array) -> Part:
    own, place = np.unique(units, return_inverse=True)
    sums = np.zeros((2, len(own), values.shape[1]))
    np.add.at(sums, (sides, place), values)
    return Part(own, sums)
