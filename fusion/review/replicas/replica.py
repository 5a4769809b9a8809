"""The near end: one replica as a reviewer that is called from one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from fusion.errors import EvidenceError, FusionError, ModelError, UnknownProfileError
from fusion.review.base import ANY_PROFILE, PreparedItem, RowsError
from fusion.review.rationale import CarryOn
from fusion.review.replicas.actor import Fault, Introduction
from fusion.review.replicas.host import Actor, EndedError
from fusion.review.replicated import LostError
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer

MAX_FAILURES = 16
"""A replica that fails so often in a row is lost: a forward of 1024 rows with one poisoned fails 11 times in a row."""


class ReplicaError(ModelError):
    """The replica failed on the batch, and does not know on which row."""


class Replica:
    """Sends batches to an actor; `lost` is told, in the caller's thread, before `score` raises `LostError`.

    To another machine evidence is sent as it came and prepared there: that is where processors are.
    """

    def __init__(
        self, actor: Actor, told: Introduction, timeout_s: float, lost: Callable[[Replica, str], None]
    ) -> None:
        self.told = told
        self._actor = actor
        self._timeout_s = timeout_s
        self._lost = lost
        self._failures = 0
        self._at_work = threading.Lock()
        self.batches = 0
        if told.makes_examples:
            self.example = self._example
        if told.explains:
            self.explain = self._explain

    @property
    def name(self) -> str:
        """The reviewer's own."""
        return self.told.name

    @property
    def task(self) -> Task:
        """The reviewer's own."""
        return self.told.task

    @property
    def profiles(self) -> frozenset[str]:
        """The reviewer's own."""
        return self.told.profiles

    @property
    def elsewhere(self) -> bool:
        """Whether the reviewer itself asks another machine."""
        return self.told.elsewhere

    @property
    def busy(self) -> bool:
        """Whether a batch is at work."""
        return self._at_work.locked()

    @classmethod
    def load(cls, argument: str) -> Self:
        """A replica has no name of its own."""
        raise ModelError(f"a replica of {argument} is loaded by what has replicas")

    def cost(self, evidence: Evidence) -> int:
        """As the reviewer itself says."""
        assert self.told.price is not None
        return self.told.price(evidence)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Make the row, or check whose it is where that is done where it is scored. Raises `EvidenceError`."""
        return prepare(self.told, evidence)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Have the rows answered. Raises `RowsError`, `ReplicaError` or `LostError`."""
        with self._at_work:
            answers = self._call("review", [_sent(row) for row in batch])
        if isinstance(answers, Fault):
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise self._gone(f"failed {self._failures} times in a row, the last time: {answers.text}")
            raise ReplicaError(f"{answers.kind}: {answers.text}")
        self._failures = 0
        self.batches += 1
        rows = [answer.error if isinstance(answer, Fault) else answer for answer in answers]
        if any(isinstance(row, FusionError) for row in rows):
            raise RowsError(rows)
        return [row for row in rows if not isinstance(row, FusionError)]

    def rest(self) -> None:
        """Return once no batch is at work."""
        with self._at_work:
            return

    def _example(self, seed: int) -> Evidence:
        made = self._call("example", seed)
        if isinstance(made, Fault):
            raise made.error
        assert isinstance(made, Evidence)
        return made

    def _explain(
        self, row: PreparedItem, answers: Mapping[str, SlotAnswer], max_tokens: int, carry_on: CarryOn = lambda: True
    ) -> str:
        with self._at_work:
            said = self._call("explain", (_sent(row), dict(answers), max_tokens), carry_on)
        if isinstance(said, Fault):
            raise said.error
        return str(said)

    def _call(self, method: str, argument: object, carry_on: CarryOn | None = None) -> Any:
        try:
            return self._actor.call(method, argument, self._timeout_s, carry_on)
        except FusionError:
            raise
        except TimeoutError:
            raise self._gone(f"no answer within {self._timeout_s:g} s") from None
        except Exception as error:  # noqa: BLE001 whatever the host raises, there is no answer from this one
            raise self._gone(told_of(error)) from None

    def _gone(self, reason: str) -> LostError:
        self._lost(self, reason)
        return LostError(f"a replica of {self.name} is lost ({reason})")


def told_of(error: BaseException | None) -> str:
    """An error in a word or a line."""
    return str(error) if isinstance(error, FusionError | EndedError) else type(error).__name__


def _sent(row: PreparedItem) -> PreparedItem | Evidence:
    return row.payload if isinstance(row.payload, Evidence) else row


def prepare(told: Introduction, evidence: Evidence) -> PreparedItem:
    """A row of a reviewer that is elsewhere. Raises `EvidenceError`, `UnknownProfileError` for another trunk."""
    if told.preparer is not None:
        return told.preparer(evidence)
    if evidence.task != told.task.name:
        raise EvidenceError(f"{evidence.item}: task {evidence.task!r} sent to a reviewer of {told.task.name!r}")
    if ANY_PROFILE not in told.profiles and evidence.profile not in told.profiles:
        raise UnknownProfileError(f"{evidence.item}: trunk {evidence.profile[:12]!r} is not served by {told.name}")
    assert told.price is not None
    blind = told.pixels_only and evidence.pixels is None
    return PreparedItem(evidence.item, told.price(evidence), evidence, blind)
