"""`process:` and `ray:`: replicas of a reviewer as processes of this machine, or as Ray actors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from fusion.errors import FusionError, ModelError
from fusion.review.base import PreparedItem
from fusion.review.rationale import CarryOn, Explains
from fusion.review.replicas.actor import Introduction
from fusion.review.replicas.fleet import Fleet
from fusion.review.replicas.host import Host
from fusion.review.replicas.name import ProcessName, RayName, ReplicasName
from fusion.review.replicas.process_host import ProcessHost
from fusion.review.replicas.ray_host import RayHost
from fusion.review.replicas.replica import Replica, prepare
from fusion.review.replicated import LostError, ScaleLimits
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer

_ATTEMPTS = 3


class ReplicasReviewer:
    """Says what its replicas say, under their name: a verdict does not tell that there were several.

    The service asks the replicas themselves, several at a time; whoever asks this object asks one of them.
    """

    def __init__(self, called: ReplicasName, host: Host, fleet: Fleet, told: Introduction) -> None:
        self.name = told.name
        self.task: Task = told.task
        self.profiles = told.profiles
        self.limits: ScaleLimits = called.limits
        self._start_s = called.start_s
        self.pixels_only = told.pixels_only
        self._told = told
        self._host = host
        self._fleet = fleet
        if told.makes_examples:
            self.example = self._example
        if told.explains:
            self.explain = self._explain

    @classmethod
    def _started(cls, called: ReplicasName, argument: str, host_of: Callable[[], Host]) -> Self:
        with contextlib.ExitStack() as undo:
            try:
                host = host_of()
                undo.callback(host.close)
                fleet = Fleet(host, called)
                told = fleet.start()
                if told.price is None:
                    fleet.close()
                    raise ModelError(
                        f"{told.name} has no attribute price, so nobody elsewhere can say what a review costs"
                    )
            except FusionError as error:
                raise type(error)(f"reviewer {called.scheme}:{argument}: {error}") from None
            undo.pop_all()
        return cls(called, host, fleet, told)

    @property
    def preparer(self) -> Callable[[Evidence], PreparedItem] | None:
        """See `fusion.review.replicated`."""
        return self._told.preparer

    def cost(self, evidence: Evidence) -> int:
        """As the reviewer itself says."""
        assert self._told.price is not None
        return self._told.price(evidence)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Make the row, or check whose it is where that is done where it is scored. Raises `EvidenceError`."""
        return prepare(self._told, evidence)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Have one replica answer; another where that is lost, and where none is up the next one that is within
        `start_s`. Raises as `Replica.score` does.
        """
        for _ in range(_ATTEMPTS - 1):
            one = self._first_of(self._fleet.wait(self._start_s))
            try:
                return one.score(batch)
            except LostError:
                continue
        return self._first_of(self._fleet.wait(self._start_s)).score(batch)

    def replicas(self) -> tuple[Replica, ...]:
        """Those that are up."""
        return self._fleet.replicas()

    def watch(self, changed: Callable[[], None]) -> None:
        """See `fusion.review.replicated`."""
        self._fleet.watch(changed)

    def resize(self, replicas: int) -> None:
        """See `fusion.review.replicated`."""
        self._fleet.resize(min(self.limits.most, max(self.limits.least, replicas)))

    def close(self) -> None:
        """End the replicas, and the instance of Ray if it is our own."""
        self._fleet.close()
        self._host.close()

    def _example(self, seed: int) -> Evidence:
        return self._any().example(seed)

    def _explain(
        self, row: PreparedItem, answers: Mapping[str, SlotAnswer], max_tokens: int, carry_on: CarryOn = lambda: True
    ) -> str:
        one = self._any()
        assert isinstance(one, Explains)
        return one.explain(row, answers, max_tokens, carry_on)

    def _any(self) -> Replica:
        return self._first_of(self._fleet.replicas())

    def _first_of(self, up: Sequence[Replica]) -> Replica:
        if not up:
            raise LostError(f"no replica of {self.name} is up")
        return up[0]


class ProcessReviewer(ReplicasReviewer):
    """`process:[REVIEWER]?OPTION=VALUE`: replicas are processes on this machine."""

    @classmethod
    def load(cls, argument: str) -> Self:
        """Start them. Raises `ConfigError`, `ModelError`, `UnavailableError`."""
        called = ProcessName.parse(argument)
        return cls._started(called, argument, lambda: ProcessHost(called))


class RayReviewer(ReplicasReviewer):
    """`ray:[REVIEWER]?OPTION=VALUE`: replicas are actors of Ray."""

    @classmethod
    def load(cls, argument: str) -> Self:
        """Start them. Raises `ConfigError`, `ModelError`, `UnavailableError`."""
        called = RayName.parse(argument)
        return cls._started(called, argument, lambda: RayHost(called))
