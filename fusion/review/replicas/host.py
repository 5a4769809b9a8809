"""Where replicas live: what the fleet asks of Ray, or of this machine."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from fusion.review.rationale import CarryOn
from fusion.review.replicas.actor import Fault, Introduction


class EndedError(ConnectionError):
    """The replica's process ended; the text says how."""


class Actor(Protocol):
    """One replica in a process of its own, which loads at once.

    `loaded` has an exception where the process ended first, `UnavailableError` where it is known how; `ended` is done
    when it has, with words for how where they are known.
    """

    @property
    def loaded(self) -> Future[Introduction | Fault]:
        """Who it is, or why it cannot be."""

    @property
    def ended(self) -> Future[Any]:
        """Done when its process has ended, whatever it holds."""

    def call(self, method: str, argument: object, timeout_s: float, carry_on: CarryOn | None = None) -> Any:
        """What a method of `ReplicaActor` returns; it is told to end sooner when `carry_on`, asked meanwhile, says no.

        Raises `FusionError` for what cannot be asked, `TimeoutError` after so long, any other where it is gone,
        `EndedError` where it is known how.
        """

    def kill(self) -> None:
        """End its process, also in the middle of a batch."""


class Host(Protocol):
    """Starts replicas of one reviewer."""

    def begin(self) -> Actor | None:
        """One more, which may come up much later, when what it asks for is there; None while one that ends has it."""

    def resources(self) -> str:
        """What of what is asked for there is, for a message."""

    def close(self) -> None:
        """Let go of the host itself, once all actors are killed."""
