"""From readings to durable records: synchronize, detect, fuse, track, screen, encode.

Driven by `feed`, one reading at a time, by one thread. It has two stages: up to the detector, and everything after it.
One after the other they need no thread, which is how replay drives them; overlapped, the second has a thread of its own
and works on one sample while the detector looks at the next. The records are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_node.perception import Look, Perception
from edge_node.relay import Relay
from edge_node.screener import Candidate, Decision, Screener
from edge_node.spool import FinishRecord, GapRecord, ItemRecord, Marks, Record, Resume, SampleRecord, Timing
from edge_node.suspicion import suspicion
from edge_node.tracker import Tracker, TrackView
from fusion.clock import Clock
from fusion.codec import FULL
from fusion.errors import InputError
from fusion.geometry import Rig
from fusion.synchronization import Aligned, Synchronizer
from fusion.types import Gap, ItemId, ItemState, Reading, Sample, SampleId


@dataclass(frozen=True, slots=True)
class Stages:
    """The parts a pipeline is made of."""

    synchronizer: Synchronizer
    perception: Perception
    tracker: Tracker
    screener: Screener


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A sample behind the detector; without a `look`, `why` there is none."""

    aligned: Aligned
    sample: Sample
    look: Look | None
    why: str = ""
    source_ns: int = 0
    began_ns: int = 0
    detected_ns: int = 0


class Pipeline:
    """Turns readings into records and hands each to `store`, in order.

    `resume` is where the spool says the run stands: frames before its cursor only warm the synchronizer up.
    `sequence` is the number of the next sample.
    """

    def __init__(
        self,
        stages: Stages,
        resume: Resume,
        store: Callable[[Record], object],
        clock: Clock,
        *,
        device: str,
        epoch: str,
        sequence: int,
        rig: Rig | None = None,
        overlap: bool = False,
    ) -> None:
        self._stages = stages
        self._resume = resume
        self._store = store
        self._clock = clock
        self._device, self._epoch, self._sequence = device, epoch, sequence
        self._rig = rig
        self._source_ns = 0
        self._begun = resume.cursor
        if resume.state:
            state = json.loads(resume.state)
            stages.tracker.restore(state["tracker"])
            stages.screener.restore(state["screener"])
        self._relay = Relay(self._settle, "screening") if overlap else None

    @property
    def resume(self) -> Resume:
        """Where the run stands after the last record."""
        return self._resume

    def feed(self, cursor: int, reading: Reading, source_ns: int = 0) -> None:
        """Take a reading; `cursor` is the source's position after it, `source_ns` what reading and decoding it took."""
        self._source_ns += source_ns
        self._take(self._stages.synchronizer.push(cursor, reading))

    def skip(self, cursor: int, frame: Reading, reason: str) -> None:
        """Declare the reference frame at `cursor` a gap instead of processing it."""
        self._take(self._stages.synchronizer.skip(cursor, frame, reason))

    def tick(self, now_ns: int) -> None:
        """Time has passed: of a live source, frames do not wait for ever for a sensor that says nothing more."""
        self._take(self._stages.synchronizer.tick(now_ns))

    def finish(self) -> None:
        """The source ended: process what still waits, and note the end."""
        self._take(self._stages.synchronizer.flush())
        self.close()
        self._resume = replace(self._resume, finished=True)
        self._store(FinishRecord(self._resume))

    def close(self) -> None:
        """Finish what is begun. Raises what went wrong with it; nothing is fed any more."""
        if relay := self._relay:
            self._relay = None
            relay.close()

    def _take(self, ready: list[Aligned | Gap]) -> None:
        for one in ready:
            if isinstance(one, Gap):
                self._hand_over(one)
            elif one.cursor > self._begun:
                self._begun = one.cursor
                self._hand_over(self._detect(one))
            self._source_ns = 0

    def _hand_over(self, job: Gap | _Begun) -> None:
        if self._relay:
            self._relay.put(job)
        else:
            self._settle(job)

    def _detect(self, aligned: Aligned) -> _Begun:
        """The first stage. The sample's number is final only when those before it are settled."""
        sample = Sample(self._identity(), aligned.time_ns, aligned.slots, self._rig, aligned.cursor)
        began = self._clock.monotonic_ns()
        try:
            look = self._stages.perception.detect(sample)
        except InputError as error:
            return _Begun(aligned, sample, None, str(error))
        return _Begun(aligned, sample, look, "", self._source_ns, began, self._clock.monotonic_ns())

    def _identity(self) -> SampleId:
        return SampleId(self._device, self._epoch, self._sequence)

    def _settle(self, job: Gap | _Begun) -> None:
        """The second stage: everything after the detector, in order."""
        if isinstance(job, Gap):
            if job.last > self._resume.cursor:
                self._gap(job)
            return
        if job.aligned.fresh:
            self._stages.tracker.forget()
            self._stages.screener.forget()
        sample = replace(job.sample, id=self._identity())
        why = job.why
        if job.look:
            fusing_ns = self._clock.monotonic_ns()
            try:
                look = self._stages.perception.fuse(sample, job.look)
            except InputError as error:
                why = str(error)
            else:
                marks = Marks(job.detected_ns, fusing_ns, self._clock.monotonic_ns())
                self._decide(job, sample, look, marks)
                return
        self._resume = replace(self._resume, warm_cursor=job.aligned.warm_cursor)
        self._gap(Gap(job.aligned.cursor, job.aligned.cursor, f"cannot be perceived: {why}"))

    def _gap(self, gap: Gap) -> None:
        self._resume = replace(self._resume, cursor=gap.last, state=self._state())
        self._store(GapRecord(gap, self._resume))

    def _decide(self, job: _Begun, sample: Sample, look: Look, marks: Marks) -> None:
        stages, aligned = self._stages, job.aligned
        views = stages.tracker.update(sample.time_ns, look.detections)
        stages.screener.keep(stages.tracker.held())
        decisions = stages.screener.decide(sample.time_ns, candidates(sample.id, look, views, stages.perception))
        decided = self._clock.monotonic_ns()
        items = tuple(self._item(sample, look, *pair) for pair in enumerate(zip(views, decisions, strict=True)))
        self._resume = replace(
            self._resume, cursor=aligned.cursor, warm_cursor=aligned.warm_cursor, state=self._state()
        )
        coded = self._clock.monotonic_ns()
        timing = Timing(job.source_ns, decided - job.began_ns, look.engine_ns, coded - decided)
        slots = {name: (slot.availability, slot.age_ns) for name, slot in sample.slots.items()}
        self._sequence += 1
        self._store(
            SampleRecord(
                sample.id.sequence, sample.time_ns, slots, self._resume, items, timing, look.placement, coded, marks
            )
        )

    def _item(self, sample: Sample, look: Look, index: int, chosen: tuple[TrackView, Decision]) -> ItemRecord:
        view, decision = chosen
        detection = look.detections[index]
        perception = self._stages.perception
        scores = dict(zip(perception.classes, map(float, detection.class_scores), strict=True))
        told = dict(zip(perception.conditions, map(float, detection.condition_scores), strict=False))
        record = ItemRecord(
            decision.item.item, view.track, detection.box, detection.label, detection.score,
            scores, look.opinion(index), decision.state, decision.reasons, decision.value,
            decision.note, decision.into, condition_scores=told,
        )  # fmt: skip
        if decision.state is not ItemState.PENDING:
            return record
        try:
            blobs = self._stages.perception.encode(sample, look, index, view.track, decision)
        except InputError as error:
            self._stages.screener.settle(decision, None)
            return replace(record, state=ItemState.QUARANTINED, note=str(error))
        self._stages.screener.settle(decision, len(blobs.evidence))
        rate = decision.grant.rate
        return replace(record, blobs=blobs, note="" if rate is FULL else f"sent at rate {rate.name}")

    def _state(self) -> str:
        stages = self._stages
        state = {"tracker": stages.tracker.snapshot(), "screener": stages.screener.snapshot()}
        return json.dumps(state, separators=(",", ":"))


def candidates(sample: SampleId, look: Look, views: tuple[TrackView, ...], perception: Perception) -> list[Candidate]:
    """What the screener is to decide on: one item a detection, numbered from 1."""
    found = []
    for index, (view, detection) in enumerate(zip(views, look.detections, strict=True)):
        fused, novelty = look.fused(index), look.novelty[index] if look.novelty else None
        doubt = suspicion(detection, fused, perception.conditions, perception.ordinary)
        found.append(Candidate(ItemId(sample, index + 1), view, detection, fused, novelty, doubt))
    return found
