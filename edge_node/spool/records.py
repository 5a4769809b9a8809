"""What the pipeline hands to the spool, and what the uplink gets back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fusion.types import Availability, Box2D, DeviceOpinion, Gap, ItemId, ItemState, KeptLanes, SendReason

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a run stands: position after the last sample, position to warm up from, state of tracker and screener."""

    run: int
    lap: int
    cursor: int = 0
    warm_cursor: int = 0
    state: str = ""
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of one sample in nanoseconds.

    `source` reading and decoding; `edge` from decoded sample to decision, of which `engine` inside the
    engines' calls and `beside` the rest, waiting between overlapped stages included; `evidence` coding what is sent,
    after the decision.
    """

    source: int = 0
    edge: int = 0
    engine: int = 0
    evidence: int = 0

    @property
    def beside(self) -> int:
        """The part of `edge` that is not inside the engines."""
        return self.edge - self.engine


@dataclass(frozen=True, slots=True)
class Marks:
    """Moments of one sample on the monotonic clock: the detector was through, the fuser took over, was through."""

    detected_ns: int = 0
    fusing_ns: int = 0
    fused_ns: int = 0


@dataclass(frozen=True, slots=True)
class OutboxBlobs:
    """What waits for an answer: serialised Evidence, and the lanes the service may ask for."""

    evidence: bytes
    profile: str
    kept: KeptLanes = field(default_factory=KeptLanes)
    maps_bytes: int = 0
    tokens_bytes: int = 0

    @property
    def crop_bytes(self) -> int:
        """Bytes of the crop's picture."""
        return len(self.kept.pixels.encoded) if self.kept.pixels else 0


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One item as decided; `blobs` exactly when its state is `PENDING`. Box in pixels of the model's input.

    `class_scores` and `condition_scores` are the detector's; the latter empty when it does not tell them.
    """

    item: int
    track: int
    box: Box2D
    label: str
    score: float
    class_scores: Mapping[str, float]
    opinion: DeviceOpinion
    state: ItemState
    reasons: tuple[SendReason, ...] = ()
    value: float = 0.0
    note: str = ""
    into: ItemId | None = None
    blobs: OutboxBlobs | None = None
    condition_scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One processed sample: the row, its items, and where the source stands after it, committed as one.

    `placement` is (scale, dx, dy): model pixels are frame pixels * scale + (dx, dy). `handed_ns` is when it was
    handed over (monotonic), 0 for not known; `marks` are not kept.
    """

    sequence: int
    time_ns: int
    slots: Mapping[str, tuple[Availability, int]]
    resume: Resume
    items: tuple[ItemRecord, ...] = ()
    timing: Timing = field(default_factory=Timing)
    placement: tuple[float, float, float] = (1.0, 0.0, 0.0)
    handed_ns: int = 0
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Frames that will not be samples, declared; committed with the source's position after them."""

    gap: Gap
    resume: Resume


@dataclass(frozen=True, slots=True)
class FinishRecord:
    """The source of a run ended."""

    resume: Resume


Record = SampleRecord | GapRecord | FinishRecord


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One unanswered item, in outbox order by `id`. `committed_ns` is monotonic, below 0 for another boot's."""

    id: int
    item: ItemId
    evidence: bytes
    committed_ns: int
    sent_before: bool


def row_digest(item: ItemId, evidence: bytes, crop: bytes, crop_form: str) -> bytes:
    """Sixteen bytes over everything in an outbox row that must not change (SQLite does not checksum its pages)."""
    hasher = hashlib.blake2b(digest_size=16)
    for blob in (str(item).encode(), evidence, crop, crop_form.encode()):
        hasher.update(len(blob).to_bytes(8, "big"))
        hasher.update(blob)
    return hasher.digest()


def sealed(item: ItemId, context: bytes) -> bytes:
    """`context` behind its own digest: damage to it costs the context, not the evidence."""
    return _context_digest(item, context) + context if context else b""


def unsealed(item: ItemId, sealed_context: bytes) -> bytes:
    """What was `sealed`; nothing when it is damaged."""
    digest, context = sealed_context[:_DIGEST_BYTES], sealed_context[_DIGEST_BYTES:]
    return context if digest == _context_digest(item, context) else b""


def _context_digest(item: ItemId, context: bytes) -> bytes:
    return hashlib.blake2b(context, digest_size=_DIGEST_BYTES, key=str(item).encode()[:64]).digest()
