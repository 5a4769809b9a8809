"""Values of a JSON document that know the way to themselves, so that a wrong one can be named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.errors import RecordingError
from fusion.types import Float64Array

_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Node:
    """`value`, found at `place` (file, record, keys); methods raise `RecordingError` for another kind of value."""

    value: Any
    place: str

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and key in self.value

    def __getitem__(self, key: str) -> Node:
        """The value of an object's key."""
        if not isinstance(self.value, Mapping):
            raise self._no("an object")
        if key not in self.value:
            raise RecordingError(f"{self.place}: '{key}' is missing")
        return Node(self.value[key], f"{self.place}.{key}")

    def items(self) -> list[tuple[str, Node]]:
        """Keys and values of an object."""
        if not isinstance(self.value, Mapping):
            raise self._no("an object")
        return [(str(key), self[key]) for key in self.value]

    def elements(self) -> list[Node]:
        """The values of an array."""
        if not isinstance(self.value, list):
            raise self._no("an array")
        return [Node(value, f"{self.place}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self._no("a string")
        return self.value

    def number(self) -> float:
        """A finite number."""
        return float(self.array())

    def array(self, *shape: int) -> Float64Array:
        """Finite numbers of that shape."""
        found = self.numbers(*shape)
        if not np.isfinite(found).all():
            raise self._no("finite numbers")
        return found

    def numbers(self, *shape: int) -> Float64Array:
        """Numbers of that shape, of which some may be NaN or infinite."""
        try:
            found = np.array(self.value)
            if found.shape == shape and found.dtype.kind in "iuf":
                return found.astype(np.float64)
        except (ValueError, OverflowError):
            pass
        raise self._no(f"numbers of shape {shape}" if shape else "a number")

    def _no(self, wanted: str) -> RecordingError:
        told = repr(self.value)
        return RecordingError(f"{self.place}: {told if len(told) < _SHOWN else told[:_SHOWN] + '...'} is not {wanted}")
