"""The near end: one replica as a reviewer that is called from one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from fusion.errors import EvidenceError, FusionError, ModelError, UnknownProfileError
from fusion.review.base import ANY_PROFILE, PreparedItem, RowsError
from fusion.review.replicas.actor import WORK, Fault, Introduction
from fusion.review.replicated import LostError
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer

MAX_FAILURES = 16
"""A replica that fails so often in a row is lost: a forward of 1024 rows with one poisoned fails 11 times in a row."""


class ReplicaError(ModelError):
    """The replica failed on the batch, and does not know on which row."""


class Replica:
    """Sends batches to an actor; `lost` is told, in the caller's thread, before `score` raises `LostError`.

    Evidence is sent as it came and prepared there: that is where processors are.
    """

    def __init__(
        self, ray: Any, actor: Any, told: Introduction, timeout_s: float, lost: Callable[[Replica, str], None]
    ) -> None:
        self.told = told
        self._ray = ray
        self._actor = actor
        self._timeout_s = timeout_s
        self._lost = lost
        self._failures = 0
        self._at_work = threading.Lock()
        self.batches = 0
        if told.makes_examples:
            self.example = self._example

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
        raise ModelError(f"ray:{argument} is loaded as a whole")

    def cost(self, evidence: Evidence) -> int:
        """As the reviewer itself says."""
        assert self.told.price is not None
        return self.told.price(evidence)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Check whose it is; the rest is done where it is scored. Raises `EvidenceError`."""
        return prepare(self.told, evidence)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Have the rows answered. Raises `RowsError`, `ReplicaError` or `LostError`."""
        with self._at_work:
            answers = self._call(self._actor.review, [row.payload for row in batch])
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
        made = self._call(self._actor.example, seed)
        if isinstance(made, Fault):
            raise made.error
        assert isinstance(made, Evidence)
        return made

    def _call(self, method: Any, argument: object) -> Any:
        try:
            return self._ray.get(method.options(concurrency_group=WORK).remote(argument), timeout=self._timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            raise self._gone(f"no answer within {self._timeout_s:g} s") from None
        except Exception as error:  # noqa: BLE001 whatever Ray raises, there is no answer from this one
            raise self._gone(f"{type(error).__name__}") from None

    def _gone(self, reason: str) -> LostError:
        self._lost(self, reason)
        return LostError(f"a replica of {self.name} is lost ({reason})")


def prepare(told: Introduction, evidence: Evidence) -> PreparedItem:
    """A row of a reviewer that is elsewhere. Raises `EvidenceError`, `UnknownProfileError` for another trunk."""
    if evidence.task != told.task.name:
        raise EvidenceError(f"{evidence.item}: task {evidence.task!r} sent to a reviewer of {told.task.name!r}")
    if ANY_PROFILE not in told.profiles and evidence.profile not in told.profiles:
        raise UnknownProfileError(f"{evidence.item}: trunk {evidence.profile[:12]!r} is not served by {told.name}")
    assert told.price is not None
    return PreparedItem(evidence.item, told.price(evidence), evidence)
