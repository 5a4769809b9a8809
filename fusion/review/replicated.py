"""A reviewer that is several: replicas with the same weights, each scoring a batch of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from fusion.errors import UnavailableError
from fusion.review.base import PreparedItem, Reviewer
from fusion.types import Evidence


class LostError(UnavailableError):
    """The replica is gone that scored the batch, and with it the answers; another may be asked."""


@dataclass(frozen=True, slots=True)
class ScaleLimits:
    """How many replicas there may be, and when there should be another number.

    `target_s` seconds of waiting work are worth one more replica; one goes after `idle_s` seconds of too little work.
    """

    least: int
    most: int
    target_s: float = 1.0
    idle_s: float = 60.0

    @property
    def fixed(self) -> bool:
        """Whether the number never changes."""
        return self.least == self.most


class Replicated(Reviewer, Protocol):
    """Beside what a reviewer has, it lends its replicas out.

    A replica is a `Reviewer` of the same name, called from one thread at a time, several from as many. What one
    prepared any other can score. `score` raises `LostError` where the replica is gone.
    """

    @property
    def limits(self) -> ScaleLimits:
        """How many replicas there may be."""

    @property
    def preparer(self) -> Callable[[Evidence], PreparedItem] | None:
        """What makes rows here, so that it is well done ahead; None where the replica that scores them does."""

    def replicas(self) -> Sequence[Reviewer]:
        """Those that can score now; an object that left never comes back."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called, from any thread, whenever `replicas` changed."""

    def resize(self, replicas: int) -> None:
        """Ask for so many, within the limits; they come and go later. One that scores ends its batch first."""


def replicated(reviewer: Reviewer) -> Replicated | None:
    """`reviewer` as one of replicas, None where it is a single one."""
    return cast("Replicated", reviewer) if hasattr(reviewer, "replicas") else None
