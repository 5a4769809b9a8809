"""Replicas as actors of Ray, on this machine or on a cluster's."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from fusion.errors import ModelError
from fusion.review.rationale import CarryOn
from fusion.review.replicas.actor import LIFE, WORK, Fault, Introduction, ReplicaActor
from fusion.review.replicas.cluster import Cluster
from fusion.review.replicas.name import RayName


class RayHost:
    """See `Host`. Ray does not restart the actors itself: it would do so at once and for ever, and a new one must first
    show that it has the same weights.
    """

    def __init__(self, called: RayName) -> None:
        self._called = called
        self._cluster = Cluster.open(called.address)
        ray = self._ray = self._cluster.ray
        try:
            self._check_gpus()
        except ModelError:
            self.close()
            raise
        made = ray.remote(concurrency_groups={LIFE: 1, WORK: 1})(ReplicaActor)
        self._made = made.options(
            num_cpus=called.cpus if called.address else 0,
            num_gpus=called.gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )

    def begin(self) -> RayActor:
        """See `Host.begin`."""
        return RayActor(self._ray, self._made.remote(self._called.reviewer, self._called.cpus))

    def resources(self) -> str:
        """See `Host.resources`."""
        there = self._ray.cluster_resources()
        return (
            f"the cluster has {there.get('GPU', 0):g} GPUs and {there.get('CPU', 0):g} processors, busy ones included"
        )

    def close(self) -> None:
        """End the instance of Ray if it is our own."""
        self._cluster.close()

    def _check_gpus(self) -> None:
        """On a machine of one's own no GPU will come; raises `ModelError` when there are too few."""
        called, there = self._called, self._ray.cluster_resources().get("GPU", 0)
        asked = called.gpus * called.limits.least
        if not called.address and asked > there:
            raise ModelError(f"{asked:g} GPUs are asked for and {there:g} are there; gpus=0 computes without")


class RayActor:
    """See `Actor`."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.loaded: Future[Introduction | Fault] = actor.load.options(concurrency_group=WORK).remote().future()
        self.ended: Future[Any] = actor.stay.options(concurrency_group=LIFE).remote().future()

    def call(self, method: str, argument: object, timeout_s: float, carry_on: CarryOn | None = None) -> Any:
        """See `Actor.call`; nothing is told to an actor at work."""
        del carry_on
        asked = getattr(self._actor, method).options(concurrency_group=WORK).remote(argument)
        try:
            return self._ray.get(asked, timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError as error:
            raise TimeoutError from error

    def kill(self) -> None:
        """See `Actor.kill`."""
        self._ray.kill(self._actor)
