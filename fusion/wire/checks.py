"""Checks of single fields; each failure names the message, its item and the field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from fusion.errors import FusionError
from fusion.wire.limits import MAX_NAME

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")


@lru_cache(maxsize=4096)
def _is_name(text: str) -> bool:
    """Labels and options come again with every message."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Checks on the fields of one message; `subject` says which, `error` is what a bad field raises."""

    subject: str
    error: type[FusionError]

    def fail(self, field: str, what: str) -> NoReturn:
        """Raise the error for `field`."""
        raise self.error(f"{self.subject}: field {field!r} {what}")

    def present(self, field: str, *, there: bool) -> None:
        """The field must be set."""
        if not there:
            self.fail(field, "is missing")

    def number(self, field: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
        """Finite and within `low`..`high`."""
        if not math.isfinite(value):
            self.fail(field, f"is {value}, not a finite number")
        if not low <= value <= high:
            self.fail(field, f"is {value}, outside {low:g}..{high:g}")

    def numbers(self, field: str, values: Mapping[str, float], most: int, low: float, high: float) -> None:
        """At most `most` well-formed names, each with a finite number within `low`..`high`."""
        self.count(field, len(values), 0, most)
        for name in values:  # protobuf's maps are slow to give pairs, and most of a message is such maps
            value = values[name]
            if len(name) > MAX_NAME or not _is_name(name) or not math.isfinite(value) or not low <= value <= high:
                self.name(f"{field} name", name)
                self.number(f"{field}[{name}]", value, low, high)

    def count(self, field: str, number: int, low: int, high: int) -> None:
        """Between `low` and `high` entries (or bytes)."""
        if not low <= number <= high:
            self.fail(field, f"has {number} entries or bytes, allowed are {low}..{high}")

    def name(self, field: str, value: str, longest: int = MAX_NAME) -> None:
        """A short printable name without spaces."""
        if not value:
            self.fail(field, "is missing")
        if len(value) > longest or not _is_name(value):
            self.fail(field, f"is {value[:longest]!r}, not a name of at most {longest} plain characters")

    def unique(self, field: str, values: Sequence[object]) -> None:
        """No entry twice."""
        if len(set(values)) != len(values):
            self.fail(field, "has an entry twice")
