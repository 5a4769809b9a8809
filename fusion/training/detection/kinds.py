"""Kinds: a detector is taught class *and* condition, so that its maps hold what damage looks like.

A kind is written `class/condition`; a task without conditions has kinds that are its classes. The exported graph adds
the kinds of a class up again: a device knows classes, and what condition the detector makes of each box.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fusion.errors import ModelError
from fusion.types import Float32Array, TruthObject

_NAMES_TOLD = 8
"""How many names a message tells."""


def kind_of(thing: TruthObject) -> str:
    """The kind of an object whose truth is known."""
    return f"{thing.label}/{thing.condition}" if thing.condition else thing.label


def class_of(kind: str) -> str:
    """The class a kind belongs to."""
    return kind.partition("/")[0]


def condition_of(kind: str) -> str:
    """The condition of a kind; empty when it has none."""
    return kind.partition("/")[2]


def sorted_kinds(kinds: Iterable[str], classes: Sequence[str], conditions: Sequence[str]) -> tuple[str, ...]:
    """Each kind once, by class and then by condition. Raises `ModelError` for one the task does not know."""
    found = set(kinds)
    known = [c for c in classes if c in found]
    known += [f"{c}/{k}" for c in classes for k in conditions if f"{c}/{k}" in found]
    if strange := sorted(found - set(known)):
        raise ModelError(f"the task has no {', '.join(strange)}; it knows {', '.join(classes)}")
    return tuple(sorted(known, key=lambda kind: (classes.index(class_of(kind)), known.index(kind))))


def unfit(kinds: Sequence[str], classes: Sequence[str], conditions: Sequence[str]) -> str:
    """Why a detector of `kinds` is none of these classes and conditions, in words; empty when it is: each class has a
    kind, none has another name, and they are in order.
    """
    if strange := [
        kind for kind in kinds if class_of(kind) not in classes or not _known(condition_of(kind), conditions)
    ]:
        return f"the task has no {some(strange)}"
    if missing := [name for name in classes if name not in map(class_of, kinds)]:
        return f"nothing of it is a {some(missing)}"
    if sorted_kinds(kinds, classes, conditions) != tuple(kinds):
        return f"they are {some(kinds)}, of {some(classes)}"
    return ""


def _known(condition: str, conditions: Sequence[str]) -> bool:
    return not condition or condition in conditions


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:_NAMES_TOLD]) + (
        f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    )


def membership(kinds: Sequence[str], groups: Sequence[str], *, by_condition: bool = False) -> Float32Array:
    """Which kinds add up to which of `groups` (classes, or conditions): (groups, kinds) of 0 and 1."""
    part = condition_of if by_condition else class_of
    return np.array([[float(part(kind) == group) for kind in kinds] for group in groups], np.float32)
