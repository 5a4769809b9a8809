"""The messages of the stream as plain values, and their protobuf forms.

`Submission` keeps evidence serialised: a device sends what lies in its spool, the service digests what it got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fusion.errors import FusionError
from fusion.tracing import TraceContext
from fusion.types import (
    DeviceStatus,
    Evidence,
    ItemId,
    ItemState,
    KeptLanes,
    LedgerCounts,
    PixelCrop,
    PointCrop,
    SoundClip,
    Verdict,
)
from fusion.wire import PROTOCOL_VERSION
from fusion.wire.convert import parse_evidence, serialize_evidence

ANY_PROFILE = "*"
"""In `Welcome.profiles`: evidence of every trunk is taken."""


@dataclass(frozen=True, slots=True)
class ClockPing:
    """A question about the peer's clock; `sent_ns` is the sender's wall clock."""

    sent_ns: int


@dataclass(frozen=True, slots=True)
class ClockPong:
    """Its answer: when the ping came and when this left, on the answerer's wall clock."""

    ping_sent_ns: int
    received_ns: int
    sent_ns: int


@dataclass(frozen=True, slots=True)
class Hello:
    """A device opens the stream. `profiles` are the trunks whose evidence lies in its spool."""

    device: str
    epoch: str
    task: str
    profiles: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    ping: ClockPing | None = None
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Welcome:
    """The service takes the stream. `window` submissions may be unanswered; `last_acknowledged` is only a hint."""

    profiles: tuple[str, ...]
    window: int
    last_acknowledged: ItemId | None = None
    pong: ClockPong | None = None
    protocol_version: int = PROTOCOL_VERSION

    def serves(self, profile: str) -> bool:
        """Whether evidence of this trunk profile will be reviewed."""
        return profile in self.profiles or ANY_PROFILE in self.profiles


@dataclass(frozen=True, slots=True)
class Submission:
    """One item's evidence, serialised. The verdict is useless `deadline_ms` after receipt; 0 for never.

    `trace` is where what the service does belongs, None where the device does not trace.
    """

    item: ItemId
    blob: bytes
    deadline_ms: int = 0
    priority: int = 0
    trace: TraceContext | None = None

    @classmethod
    def of(cls, evidence: Evidence, *, deadline_ms: int = 0, priority: int = 0) -> Submission:
        """Serialise `evidence`; raises `EvidenceError`."""
        return cls(evidence.item, serialize_evidence(evidence), deadline_ms, priority)

    def evidence(self) -> Evidence:
        """The evidence, checked but with its lanes still coded; raises `EvidenceError`."""
        return parse_evidence(self.blob)


@dataclass(frozen=True, slots=True)
class Refusal:
    """No verdict: for now (`state` None, try again after `retry_after_s`) or for good (`state` is the ledger's)."""

    item: ItemId
    error: FusionError
    retry_after_s: float | None = None
    state: ItemState | None = None

    @property
    def retriable(self) -> bool:
        """Whether the item may be sent again."""
        return self.state is None


@dataclass(frozen=True, slots=True)
class PixelRequest:
    """The service asks for the item's picture and what else was kept of it, and waits `timeout_ms` for it."""

    item: ItemId
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class PixelAnswer:
    """The picture, and what people see beside it; None for what the device does not have.

    Of several lanes that came malformed, `fault` tells the first; each of them is None.
    """

    item: ItemId
    crop: PixelCrop | None = None
    fault: FusionError | None = None
    points: PointCrop | None = None
    sound: SoundClip | None = None

    @classmethod
    def of(cls, item: ItemId, kept: KeptLanes) -> PixelAnswer:
        """An answer with everything that was kept."""
        return cls(item, kept.pixels, None, kept.points, kept.sound)

    @property
    def kept(self) -> KeptLanes:
        """What came, as the device had kept it."""
        return KeptLanes(self.crop, self.points, self.sound)


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """The device's totals so far, and how it is; None from a device that does not tell."""

    counts: LedgerCounts
    status: DeviceStatus | None = None


@dataclass(frozen=True, slots=True)
class Draining:
    """The service goes away after answering what it has."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The device ends the stream on purpose."""

    reason: str = ""


DeviceMessage: TypeAlias = Hello | Submission | PixelAnswer | ClockPing | LedgerReport | Goodbye
ServiceMessage: TypeAlias = Welcome | Verdict | Refusal | PixelRequest | ClockPong | Draining
