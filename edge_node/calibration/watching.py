"""What the device sees in a recording, kept so that screening can be tried on it again and again in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

from edge_node.config import EdgeSettings, ScreeningSettings, SourceSettings
from edge_node.perception import Perception
from edge_node.pipeline import Pipeline, Stages
from edge_node.screener import Candidate, Decision, Screener
from edge_node.sources import open_source
from edge_node.spool import Record, Resume, SampleRecord
from edge_node.tracker import Tracker
from fusion.clock import SystemClock
from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.truths import TruthIndex
from fusion.review.answers import match_truth
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.types import Box2D, ItemState, Truth, TruthObject

_EPOCH = "0" * 16


@dataclass(frozen=True, slots=True)
class Visible:
    """From when on the truth counts: share of it in view, and its smaller side in pixels of the frame."""

    share: float = 0.5
    side: float = 12.0

    def shows(self, thing: TruthObject) -> bool:
        """Whether somebody could tell from the picture what it is."""
        box = thing.box2d
        return box is not None and thing.visibility >= self.share and min(box.x2 - box.x1, box.y2 - box.y1) >= self.side


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One sample before the decision. `units[i]` is the defect, by its number, that candidate i is about, None for no
    defect; `sizes[i]` the bytes of its evidence, 0 where not weighed. `fresh`: tracks ended before it.
    """

    time_ns: int
    candidates: tuple[Candidate, ...]
    units: tuple[int | None, ...]
    sizes: tuple[int, ...]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect of the truth: a thing and what is wrong with it, in so many moments with it in clear view."""

    label: str
    condition: str
    moments: int


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A recording as the device saw it. `defects` are the units, numbered by place; `tracking` is the screener's."""

    name: str
    moments: tuple[Moment, ...]
    defects: tuple[Defect, ...]
    tracking: bool

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return (self.moments[-1].time_ns - self.moments[0].time_ns) / 1e9 if self.moments else 0.0


def watch(path: Path, settings: EdgeSettings, task: Task, perception: Perception, visible: Visible) -> Watched:
    """Run a recording with truth through the device's own pipeline. Raises `RecordingError` for one without truth."""
    source = open_source(SourceSettings(path=path, split=settings.source.split), task)
    truths = TruthIndex(open_recording(path, task, settings.source.split or None).truth())
    if not truths:
        raise RecordingError(f"{path}: tells no truth; calibration needs recordings whose defects are known")
    tracking = settings.tracker.tracks(continuous=source.continuous)
    watcher = _Watcher(settings.screening, weigh=settings.screening.budget_bytes_per_s > 0)
    records: list[SampleRecord] = []

    def keep(record: Record) -> None:
        if isinstance(record, SampleRecord):
            records.append(record)

    pipeline = Pipeline(
        Stages(
            Synchronizer.of_task(task, settings.synchronizer),
            perception,
            Tracker(settings.tracker, enabled=tracking),
            watcher,
        ),
        Resume(1, 0), keep, SystemClock(), device=settings.device, epoch=_EPOCH, sequence=1, rig=source.rig,
    )  # fmt: skip
    for cursor, reading in source.readings(0):
        pipeline.feed(cursor, reading)
    pipeline.finish()
    told = [truths.at(seen.time_ns) for seen in watcher.seen]
    book = _Units(task, visible, continuous=source.continuous)
    for truth in told:
        book.look(truth)
    moments = tuple(starmap(book.moment, zip(watcher.seen, records, told, strict=True)))
    return Watched(path.name, moments, book.defects(), tracking)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    time_ns: int
    candidates: tuple[Candidate, ...]
    fresh: bool


class _Watcher(Screener):
    """A screener that remembers everything and decides nothing; with `weigh` all evidence is made, to be weighed."""

    def __init__(self, settings: ScreeningSettings, *, weigh: bool) -> None:
        super().__init__(settings, tracking=False)
        self.seen: list[_Seen] = []
        self._answer = ItemState.PENDING if weigh else ItemState.PASSED
        self._fresh = True

    def decide(self, time_ns: int, candidates: Sequence[Candidate]) -> list[Decision]:
        """Remember `candidates`."""
        self.seen.append(_Seen(time_ns, tuple(candidates), self._fresh))
        self._fresh = False
        return [Decision(candidate.item, self._answer) for candidate in candidates]

    def forget(self) -> None:
        """Tracks end before the next sample."""
        self._fresh = True


class _Units:
    """Numbers the defects of one recording that come into clear view."""

    def __init__(self, task: Task, visible: Visible, *, continuous: bool) -> None:
        self._task, self._visible, self._continuous = task, visible, continuous
        self._defects: dict[tuple[int, int], Defect] = {}
        self._numbers: dict[tuple[int, int], int] = {}

    def defects(self) -> tuple[Defect, ...]:
        """All of them, by number."""
        return tuple(self._defects.values())

    def look(self, truth: Truth | None) -> None:
        """Number what is in clear view for the first time."""
        for thing in truth.objects if truth else ():
            if self._task.is_defect(thing.label, thing.condition) and self._visible.shows(thing):
                key = self._key(thing, truth)
                self._numbers.setdefault(key, len(self._numbers))
                known = self._defects.get(key, Defect(thing.label, thing.condition or "", 0))
                self._defects[key] = replace(known, moments=known.moments + 1)

    def moment(self, seen: _Seen, record: SampleRecord, truth: Truth | None) -> Moment:
        """What was seen beside the truth. A defect counts from the first sight of it on, clear or not."""
        here = [
            (_placed(thing.box2d, record.placement), self._number(thing, truth))
            for thing in (truth.objects if truth else ())
            if thing.box2d is not None
        ]
        units = tuple(match_truth(candidate.detection.box, here) for candidate in seen.candidates)
        sizes = tuple(len(item.blobs.evidence) if item.blobs else 0 for item in record.items)
        return Moment(seen.time_ns, seen.candidates, units, sizes, seen.fresh)

    def _number(self, thing: TruthObject, truth: Truth | None) -> int | None:
        wrong = self._task.is_defect(thing.label, thing.condition)
        return self._numbers.get(self._key(thing, truth)) if wrong else None

    def _key(self, thing: TruthObject, truth: Truth | None) -> tuple[int, int]:
        """A thing, or in unrelated pictures a thing of one picture."""
        return thing.track, 0 if self._continuous or truth is None else truth.time_ns


def _placed(box: Box2D, placement: tuple[float, float, float]) -> Box2D:
    """A box of the frame in pixels of the model's input."""
    scale, dx, dy = placement
    return Box2D(box.x1 * scale + dx, box.y1 * scale + dy, box.x2 * scale + dx, box.y2 * scale + dy)
