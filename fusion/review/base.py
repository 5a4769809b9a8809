"""What the cloud asks of a reviewer, whoever it is: price evidence, prepare one row, score a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ConfigError, FusionError, ModelError
from fusion.task import Task
from fusion.types import Evidence, ItemId, SlotAnswer

ENTRY_POINTS = "fusion.reviewers"
ANY_PROFILE = "*"
"""In `Reviewer.profiles`: this reviewer does not read the maps, so it serves every trunk."""

_PROBABILITY_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class PreparedItem:
    """One row ready for a batch: `tokens` is its cost, `payload` belongs to the reviewer that made it.

    `blind` where nothing of the evidence is read, so that the answers come from no model and say nothing of one.
    """

    item: ItemId
    tokens: int
    payload: object
    blind: bool = False


class RowsError(ModelError):
    """Some rows of a batch got no answer. `rows` has every row's answers, in order, or why there are none.

    An `UnavailableError` among them says that the row is not to blame and may come again.
    """

    def __init__(self, rows: Sequence[Mapping[str, SlotAnswer] | FusionError]) -> None:
        self.rows = tuple(rows)
        errors = [row for row in rows if isinstance(row, FusionError)]
        super().__init__(f"{len(errors)} of {len(rows)} rows got no answer; the first: {errors[0]}")


class Reviewer(Protocol):
    """A model that answers a task's slots about items.

    `name` says who answers and carries the fingerprint of the weights; `profiles` are the trunks whose
    maps it reads (or `ANY_PROFILE`). It is called from one thread at a time, but `cost` and `prepare`, which must not
    change it, also while it scores. One that reads certain trunks may have a method `example(seed)` that makes an item
    it can read: the service warms it up with such. One that is to have replicas in other processes (`process:`, `ray:`)
    has an attribute `price`, a small object that does what `cost` does and pickles; it may have another, `preparer`,
    that does what `prepare` does. One that reads the picture alone has an attribute `pixels_only` that is true, and
    marks its rows without one as blind.
    """

    @property
    def name(self) -> str:
        """Who answers, with the fingerprint of the weights; it goes into every verdict."""

    @property
    def task(self) -> Task:
        """The task whose slots are answered."""

    @property
    def profiles(self) -> frozenset[str]:
        """Trunk profiles (hex sha-256) whose evidence can be read."""

    @classmethod
    def load(cls, argument: str) -> Self:
        """Make the reviewer from what follows the colon of its name. Raises `ConfigError` or `ModelError`."""

    def cost(self, evidence: Evidence) -> int:
        """Tokens one review will take, from the header alone: nothing is decoded. At least 1."""

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row. Raises `EvidenceError` (`UnknownProfileError` for another trunk)."""

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Answer every slot of every row, in order, in one forward pass; probabilities are calibrated.

        Raises `RowsError` where it knows which rows have no answer, anything else where it does not.
        """


def load_reviewer(name: str) -> Reviewer:
    """The reviewer called `SCHEME:ARGUMENT` (`mini:yard`, `mini:/path/to/folder`, `fixed:yard`).

    The scheme names an entry point of the group `fusion.reviewers`. Raises `ConfigError` for an unknown
    scheme and `ModelError` for a model that is missing or cannot be loaded.
    """
    scheme, colon, argument = name.partition(":")
    if not colon or not argument:
        raise ConfigError(f"reviewer {name!r} is not of the form SCHEME:ARGUMENT, such as mini:yard")
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in found:
        raise ConfigError(f"reviewer {name!r}: no reviewer is called {scheme!r}; known: {', '.join(sorted(found))}")
    if argument.startswith((".", "/")) and not Path(argument.partition("?")[0]).exists():  # before torch is imported
        raise ModelError(f"reviewer {name}: there is no folder {argument.partition('?')[0]}")
    return _class_of(found[scheme]).load(argument)


def _class_of(point: EntryPoint) -> type[Reviewer]:
    try:
        loaded: type[Reviewer] = point.load()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"reviewer {point.name!r} ({point.value}) cannot be imported: {error}") from None
    return loaded


def serves(reviewer: Reviewer, profile: str) -> bool:
    """Whether `reviewer` reads evidence of this trunk profile."""
    return profile in reviewer.profiles or ANY_PROFILE in reviewer.profiles


def waits_elsewhere(reviewer: Reviewer) -> bool:
    """Whether `reviewer` waits for another machine instead of computing, so that it must not hold up those that do.

    It says so by an attribute `elsewhere`; whoever has none computes.
    """
    return bool(getattr(reviewer, "elsewhere", False))


def scores_here(reviewer: Reviewer) -> bool:
    """Whether scoring takes this machine's processor: not where `reviewer` waits elsewhere, or has `on_gpu` true."""
    return not (waits_elsewhere(reviewer) or getattr(reviewer, "on_gpu", False))


def is_blind(reviewer: Reviewer, evidence: Evidence) -> bool:
    """Whether `reviewer` reads nothing of `evidence`: the picture alone, where there is none."""
    return evidence.pixels is None and bool(getattr(reviewer, "pixels_only", False))


def slot_answers(
    task: Task, tables: Sequence[NDArray[np.floating]], chosen: NDArray[np.int64]
) -> list[dict[str, SlotAnswer]]:
    """Every row's answers from probabilities (B, options) a slot and the `chosen` options (B, slots)."""
    return [
        {
            slot.name: SlotAnswer(
                slot.options[int(chosen[row, column])], dict(zip(slot.options, table[row].tolist(), strict=True))
            )
            for column, (slot, table) in enumerate(zip(task.slots, tables, strict=True))
        }
        for row in range(len(chosen))
    ]


def check_answers(task: Task, answers: Mapping[str, SlotAnswer]) -> None:
    """Raise `ModelError` unless `answers` has every slot of `task`, and nothing but its options, summing to 1."""
    wanted = {slot.name: set(slot.options) for slot in task.slots}
    if set(answers) != set(wanted):
        raise ModelError(f"a reviewer of {task.name} answered slots {sorted(answers)} instead of {sorted(wanted)}")
    for name, answer in answers.items():
        probabilities = answer.probabilities
        if set(probabilities) != wanted[name] or answer.option not in probabilities:
            raise ModelError(f"a reviewer of {task.name} answered slot {name!r} with options that are not the task's")
        total = math.fsum(probabilities.values())
        in_range = all(0.0 <= p <= 1.0 + _PROBABILITY_SUM_TOLERANCE for p in probabilities.values())
        if not in_range or not abs(total - 1.0) <= _PROBABILITY_SUM_TOLERANCE:
            raise ModelError(f"a reviewer of {task.name} gave slot {name!r} probabilities that are none")
