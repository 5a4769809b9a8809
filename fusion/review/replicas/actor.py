"""The far end: one replica in a process of its own, which loads the reviewer and scores what it is sent.

What crosses the processes are plain values and the project's own small types; a failure crosses as its name and text.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fusion.errors import EvidenceError, FusionError, ModelError, UnavailableError, UnknownProfileError
from fusion.review.base import PreparedItem, RowsError, load_reviewer, waits_elsewhere
from fusion.review.rationale import CarryOn, Explains
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer

LIFE, WORK = "life", "work"
"""Concurrency groups, a thread each."""

_KINDS: Mapping[str, type[FusionError]] = {
    kind.__name__: kind for kind in (UnknownProfileError, EvidenceError, UnavailableError, ModelError)
}


@dataclass(frozen=True, slots=True)
class Introduction:
    """Who a replica is; all of a reviewer must have the same name, which tells the weights, task and trunks.

    `preparer` makes rows where it is asked from; without one rows are made where they are scored. `explains` says that
    it can be asked why, and be interrupted at it; `pixels_only` that rows without a picture are blind.
    """

    name: str
    task: Task
    profiles: frozenset[str]
    price: Callable[[Evidence], int] | None
    preparer: Callable[[Evidence], PreparedItem] | None
    makes_examples: bool
    explains: bool
    elsewhere: bool
    process: int
    pixels_only: bool = False

    def difference(self, other: Introduction) -> str:
        """What is not alike, in words; empty where nothing is."""
        if self.name != other.name:
            return f"in their weights: {self.name} and {other.name}"
        if self.task != other.task:
            return f"in the task {self.task.name}"
        return "in the trunks they read" if self.profiles != other.profiles else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row, or what was asked as a whole, has no answer."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """The nearest kind that both ends know."""
        known = next((kind.__name__ for kind in _KINDS.values() if isinstance(error, kind)), "")
        return cls(known or type(error).__name__, str(error))

    @property
    def error(self) -> FusionError:
        """The same as an error here."""
        return _KINDS[self.kind](self.text) if self.kind in _KINDS else ModelError(f"{self.kind}: {self.text}")


Answer: TypeAlias = dict[str, SlotAnswer] | Fault


class ReplicaActor:
    """`stay` is called in one thread (by Ray), everything else in another."""

    def __init__(self, name: str, threads: int, carry_on: CarryOn = lambda: True) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._name = name
        self._threads = threads
        self._carry_on = carry_on
        self._reviewer: Any = None

    def load(self, near: bool = False) -> Introduction | Fault:
        """Load the reviewer from this machine's disk. `near` says that rows cost little to send from who asks."""
        try:
            reviewer = self._reviewer = load_reviewer(self._name)
            if hasattr(reviewer, "replicas"):
                raise ModelError("replicas have no replicas of their own")  # noqa: TRY301 told as any other
            self._pin_threads()
            return Introduction(
                reviewer.name,
                reviewer.task,
                frozenset(reviewer.profiles),
                getattr(reviewer, "price", None),
                getattr(reviewer, "preparer", None) if near else None,
                hasattr(reviewer, "example"),
                near and isinstance(reviewer, Explains),
                waits_elsewhere(reviewer),
                os.getpid(),
                bool(getattr(reviewer, "pixels_only", False)),
            )
        except Exception as error:  # noqa: BLE001 told at the other end
            return Fault.of(error)

    def stay(self) -> None:
        """Never returns: whoever waits for it learns when this process ends."""
        threading.Event().wait()

    def example(self, seed: int) -> Evidence | Fault:
        """An item that the reviewer made up."""
        try:
            made: Evidence = self._reviewer.example(seed)
        except Exception as error:  # noqa: BLE001 told at the other end
            return Fault.of(error)
        return made

    def review(self, rows: Sequence[Evidence | PreparedItem]) -> list[Answer] | Fault:
        """Prepare what is not, and score. One answer or fault a row; one fault where nobody knows whose it is."""
        prepared = [self._prepare(row) for row in rows]
        good = [row for row in prepared if not isinstance(row, Fault)]
        try:
            answers = iter(self._score(good))
        except Exception as error:  # noqa: BLE001 told at the other end
            return Fault.of(error)
        return [row if isinstance(row, Fault) else next(answers) for row in prepared]

    def explain(self, asked: tuple[Evidence | PreparedItem, Mapping[str, SlotAnswer], int]) -> str | Fault:
        """Why a row was given its answers; ends sooner where it is told to."""
        row, answers, max_tokens = asked
        prepared = self._prepare(row)
        if isinstance(prepared, Fault):
            return prepared
        try:
            said: str = self._reviewer.explain(prepared, answers, max_tokens, self._carry_on)
        except Exception as error:  # noqa: BLE001 told at the other end
            return Fault.of(error)
        return said

    def _prepare(self, evidence: Evidence | PreparedItem) -> Any:
        if isinstance(evidence, PreparedItem):
            return evidence
        try:
            return self._reviewer.prepare(evidence)
        except EvidenceError as error:
            return Fault.of(error)
        except FusionError as error:
            return Fault(EvidenceError.__name__, str(error))
        except Exception as error:  # noqa: BLE001 whatever one row does, its batch mates are answered
            told = f"{evidence.item}: the reviewer cannot prepare it ({type(error).__name__})"
            return Fault(EvidenceError.__name__, told)

    def _score(self, rows: Sequence[Any]) -> list[Answer]:
        try:
            answers = self._reviewer.score(rows) if rows else []
        except RowsError as error:
            answers = [Fault.of(row) if isinstance(row, FusionError) else row for row in error.rows]
        if len(answers) != len(rows):
            raise ModelError(f"{len(answers)} answers to {len(rows)} rows")
        return list(answers)

    def _pin_threads(self) -> None:
        import sys

        if "torch" in sys.modules:
            importlib.import_module("torch").set_num_threads(self._threads)
