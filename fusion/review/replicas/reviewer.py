"""`ray:`: replicas of a reviewer as Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from fusion.errors import FusionError, ModelError
from fusion.review.base import PreparedItem
from fusion.review.replicas.actor import Introduction
from fusion.review.replicas.cluster import Cluster
from fusion.review.replicas.fleet import Fleet
from fusion.review.replicas.name import RayName
from fusion.review.replicas.replica import Replica, prepare
from fusion.review.replicated import LostError, ScaleLimits
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer

_ATTEMPTS = 3


class RayReviewer:
    """Says what its replicas say, under their name: a verdict does not tell that there were several.

    The service asks the replicas themselves, several at a time; whoever asks this object asks one of them.
    """

    def __init__(self, called: RayName, cluster: Cluster, fleet: Fleet, told: Introduction) -> None:
        self.name = told.name
        self.task: Task = told.task
        self.profiles = told.profiles
        self.limits: ScaleLimits = called.limits
        self._told = told
        self._cluster = cluster
        self._fleet = fleet
        if told.makes_examples:
            self.example = self._example

    @classmethod
    def load(cls, argument: str) -> Self:
        """Start the replicas of `[REVIEWER]?OPTION=VALUE`. Raises `ConfigError`, `ModelError`, `UnavailableError`."""
        called = RayName.parse(argument)
        cluster = Cluster.open(called.address)
        try:
            _check_gpus(called, cluster.ray)
            fleet = Fleet(cluster.ray, called)
            told = fleet.start()
            if told.price is None:
                fleet.close()
                raise ModelError(f"{told.name} has no attribute price, so nobody elsewhere can say what a review costs")
        except FusionError as error:
            cluster.close()
            raise type(error)(f"reviewer ray:{argument}: {error}") from None
        return cls(called, cluster, fleet, told)

    def cost(self, evidence: Evidence) -> int:
        """As the reviewer itself says."""
        assert self._told.price is not None
        return self._told.price(evidence)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Check whose it is; the rest is done where it is scored. Raises `EvidenceError`."""
        return prepare(self._told, evidence)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Have one replica answer; another where that is lost. Raises as `Replica.score` does."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._any().score(batch)
            except LostError:
                continue
        return self._any().score(batch)

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
        """End the actors, and the instance of Ray if it is our own."""
        self._fleet.close()
        self._cluster.close()

    def _example(self, seed: int) -> Evidence:
        return self._any().example(seed)

    def _any(self) -> Replica:
        up = self._fleet.replicas()
        if not up:
            raise LostError(f"no replica of {self.name} is up")
        return up[0]


def _check_gpus(called: RayName, ray: Any) -> None:
    """On a machine of one's own no GPU will come; raises `ModelError` when there are too few."""
    asked, there = called.gpus * called.limits.least, ray.cluster_resources().get("GPU", 0)
    if not called.address and asked > there:
        raise ModelError(f"{asked:g} GPUs are asked for and {there:g} are there; gpus=0 computes without")
