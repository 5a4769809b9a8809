"""What a run left behind, joined: samples, items, verdicts and truth. Everything a report or a comparison reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath
from typing import TypeAlias

from fusion.task import Task
from fusion.types import Box2D, Box3D, ItemState, LedgerCounts, SlotAnswer, TruthObject

Number: TypeAlias = float | int | str | None


class Fate(StrEnum):
    """What became of a defect. Of several items about it the one that comes first in this order tells."""

    FOUND = "found"
    SENT = "sent"
    """Sent, in a run without a service: whether it is found is for a reviewer to say."""
    DISMISSED = "dismissed"
    """Reviewed, and each time answered as nothing wrong."""
    WAITING = "waiting"
    """Sent, and the service that was part of the run gave no answer."""
    EXPIRED = "expired"
    QUARANTINED = "quarantined"
    SHED = "shed"
    ELSEWHERE = "elsewhere"
    """Taken for what was sent of something else."""
    PASSED = "passed"
    UNSEEN = "unseen"
    """The detector never saw it."""

    @property
    def missed(self) -> bool:
        """Whether the defect was missed, as far as the run went."""
        return self not in (Fate.FOUND, Fate.SENT)


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One sample. Durations in milliseconds; `edge_ms` is decoded sample to decision, engine calls included.

    `truths` is all that was true at that moment, None where the recording tells nothing of it.
    """

    sequence: int
    cursor: int
    time_ns: int
    edge_ms: float
    engine_ms: float
    commit_ms: float
    decode_ms: float
    ages_ms: Mapping[str, float]
    intent: str = ""
    truths: tuple[TruthObject, ...] | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One item: what the device saw and decided, what the reviewer answered, and what was true.

    `box` is in pixels of the recorded frame. `device_answers` and `detector_answers` are the device's fused
    heads' and the bare detector's answers to the verdict's slots; `truth_answers` is empty without truth.
    `recording` is the name of its `RecordingResults`. `margin` is the least sure head's lead, which screening compares
    with `uncertain_below`; `box3d` the device's own box in the ego frame, in metres. Both are None where not known.
    `tokens_bytes` are of `evidence_bytes`, as `maps_bytes` are.
    """

    id: str
    sequence: int
    time_ns: int
    track: int
    box: Box2D
    label: str
    score: float
    state: ItemState
    reasons: tuple[str, ...]
    into: str = ""
    state_reason: str = ""
    evidence_bytes: int = 0
    maps_bytes: int = 0
    crop_bytes: int = 0
    lanes: tuple[str, ...] = ()
    uncertain: bool = False
    verdict: Mapping[str, SlotAnswer] = field(default_factory=dict)
    verdict_latency_ms: float = 0.0
    device_answers: Mapping[str, str] = field(default_factory=dict)
    detector_answers: Mapping[str, str] = field(default_factory=dict)
    truth_answers: Mapping[str, str] = field(default_factory=dict)
    truth: TruthObject | None = None
    recording: str = ""
    tokens_bytes: int = 0
    margin: float | None = None
    box3d: Box3D | None = None


@dataclass(frozen=True, slots=True)
class DefectResult:
    """One defect that came into clear view, and what became of it. `name` is the same in every run of its recording.

    `time_ns` is when it was first in clear view, in `moments` samples of which it stayed.
    """

    name: str
    recording: str
    label: str
    condition: str
    time_ns: int
    moments: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class Review:
    """One row of the service's ledger: how many items its batch had (0: none was formed), and how long that took."""

    item: str
    batch_items: int
    batch_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class RecordingResults:
    """One recording, or a stretch of one in seconds from its first reading, run through both nodes.

    `name` is its folder in the run, `source` the path or URL it was read from, `damage` what of it could not be read.
    `cloud_ledger` is None where the service was not ours to look into, or there was none: then `reviewed` is False, and
    items wait for whoever reviews their evidence. `gap_reasons` says why samples were declared a gap, and how many of
    each. `ages_ms` is how old each sensor's readings were, the median over the samples; None for a sensor that mostly
    was absent. `content` stands for its content and stretch where the ids of its items do not, empty where nothing
    does.
    """

    name: str
    source: str
    samples: tuple[SampleResult, ...]
    items: tuple[ItemResult, ...]
    defects: tuple[DefectResult, ...]
    edge_ledger: LedgerCounts
    cloud_ledger: LedgerCounts | None
    reviews: tuple[Review, ...] = ()
    split: str = ""
    from_s: float = 0.0
    to_s: float | None = None
    damage: str = ""
    continuous: bool = True
    reviewed: bool = True
    gap_reasons: Mapping[str, int] = field(default_factory=dict)
    ages_ms: Mapping[str, float | None] = field(default_factory=dict)
    content: str | None = None

    @property
    def seconds(self) -> float:
        """From the first sample to the last, in recorded time; where a clock was set back, no time passes."""
        return sum(max(0, after.time_ns - before.time_ns) for before, after in pairwise(self.samples)) / 1e9


@dataclass(frozen=True, eq=False)
class RunResults:
    """All recordings of a run. `settings` are the keys that were changed for it, with their values as text.

    `variant` is its name in a run of several, empty in a run of one.
    """

    task: Task
    recordings: tuple[RecordingResults, ...]
    summary: Mapping[str, Number]
    settings: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""

    @cached_property
    def samples(self) -> tuple[SampleResult, ...]:
        """Of all recordings, in order."""
        return tuple(sample for one in self.recordings for sample in one.samples)

    @cached_property
    def items(self) -> tuple[ItemResult, ...]:
        """Of all recordings, in order."""
        return tuple(item for one in self.recordings for item in one.items)

    @cached_property
    def defects(self) -> tuple[DefectResult, ...]:
        """Of all recordings, in order."""
        return tuple(defect for one in self.recordings for defect in one.defects)

    @cached_property
    def batch_sizes(self) -> tuple[int, ...]:
        """Items in the batch of each review."""
        return tuple(review.batch_items for one in self.recordings for review in one.reviews if review.batch_items)

    @cached_property
    def edge_ledger(self) -> LedgerCounts:
        """The devices' ledgers, added up."""
        return added(one.edge_ledger for one in self.recordings)

    @cached_property
    def cloud_ledger(self) -> LedgerCounts | None:
        """The services' ledgers, added up; None where one of them is not known."""
        known = [one.cloud_ledger for one in self.recordings if one.cloud_ledger]
        return added(known) if len(known) == len(self.recordings) else None

    @property
    def waiting(self) -> int:
        """Items that wait for a service because none was part of the run."""
        pending = ItemState.PENDING
        return sum(one.edge_ledger.items.get(pending, 0) for one in self.recordings if not one.reviewed)

    @property
    def title(self) -> str:
        """The recording's file name, or how many there are."""
        names = [PurePath(one.source).name for one in self.recordings]
        return names[0] if len(names) == 1 else f"{len(names)} recordings"


def added(ledgers: Iterable[LedgerCounts]) -> LedgerCounts:
    """Several ledgers as one."""
    total = LedgerCounts(0, 0, dict.fromkeys(ItemState, 0))
    for one in ledgers:
        items = {state: total.items[state] + one.items.get(state, 0) for state in ItemState}
        total = LedgerCounts(total.samples + one.samples, total.gaps + one.gaps, items)
    return total
