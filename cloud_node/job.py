"""One item in the service's hands, from receipt to its stored answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from cloud_node.outcome import Timings
from cloud_node.thinning import Level
from fusion.types import Evidence, ItemId, KeptLanes, Verdict
from fusion.wire.messages import PixelRequest, Refusal, Submission

if TYPE_CHECKING:
    from cloud_node.lanes.lane import Lane
    from cloud_node.lanes.reviewer import Scored

Answer: TypeAlias = Verdict | Refusal


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """Who waits for the answer. `ask` is None when pixels cannot be asked for (a unary call)."""

    answer: Callable[[Answer], None]
    ask: Callable[[PixelRequest], None] | None = None


class Stage(Enum):
    """Where a job is. It moves down this list, from ASKING back to WAITING when pixels come."""

    FINDING = "finding"
    WAITING = "waiting"
    SCORING = "scoring"
    ASKING = "asking"
    EXPLAINING = "explaining"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class Step:
    """A stage that began at `began_ns` (monotonic clock); a review with its batch's items and tokens."""

    stage: Stage
    began_ns: int
    batch: tuple[int, int] = (0, 0)


@dataclass(slots=True, eq=False)
class Job:
    """An open item. `arrival_ns` and `deadline_ns` are on the monotonic clock, `received_ns` on the wall clock.

    `listeners` may be empty: the answer is stored all the same. `first` is the review without pixels
    while pixels are asked for, `asked` what the device then gave; `evidence` is what the reviewer reads.
    `promised_ns` is when its last batch was predicted to end, None where that was not known. `steps` are the stages it
    was in after FINDING, `repeated` says that its answer was stored before it came.
    """

    submission: Submission
    listeners: list[Listener]
    arrival_ns: int
    received_ns: int
    deadline_ns: int | None
    stage: Stage = Stage.FINDING
    evidence: Evidence | None = None
    lane: Lane | None = None
    tokens: int = 0
    first: Scored | None = None
    timer: asyncio.TimerHandle | None = None
    ask_until_ns: int = 0
    queue_ns: int = 0
    review_ns: int = 0
    batch: tuple[int, int] = field(default=(0, 0))
    steps: list[Step] = field(default_factory=list)
    repeated: bool = False
    asked: KeptLanes = field(default_factory=KeptLanes)
    thinned: Level = Level.ALL
    promised_ns: int | None = None

    @property
    def item(self) -> ItemId:
        """Whose job it is."""
        return self.submission.item

    @property
    def was_read(self) -> bool:
        """Whether there is a first review that read something of it, so that it is a verdict where no second comes."""
        return self.first is not None and not self.first.blind

    def by(self, until_ns: int, *, spare_ns: int = 0) -> int:
        """`until_ns`, or `spare_ns` before the deadline where that is sooner."""
        return until_ns if self.deadline_ns is None else min(until_ns, self.deadline_ns - spare_ns)

    def enter(self, stage: Stage, now_ns: int) -> None:
        """Go on to `stage`, which ends the one before it."""
        self.stage = stage
        self.steps.append(Step(stage, now_ns, self.batch if stage is Stage.SCORING else (0, 0)))

    def begin(self, now_ns: int, items: int, tokens: int) -> None:
        """The job's batch starts."""
        self.queue_ns = now_ns - self.arrival_ns - self.review_ns
        self.batch = (items, tokens)
        self.enter(Stage.SCORING, now_ns)

    def timings(self, answered_ns: int) -> Timings:
        """What the ledger keeps about the job's way."""
        return Timings(self.received_ns, answered_ns, self.queue_ns, self.review_ns, *self.batch, int(self.thinned))
