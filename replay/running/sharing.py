"""One perception for several lanes: the models look at a sample once, whoever asks, and each lane is told the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_node.perception import Look, ModelPerception
from edge_node.screener import Decision
from edge_node.settings.evidence import EvidenceSettings
from edge_node.spool import OutboxBlobs
from fusion.clock import SystemClock
from fusion.errors import InputError
from fusion.types import Sample

_REMEMBERED = 512
"""Answers that some lane has not asked for yet; only a lane that leaves samples out ever comes near it."""
_Key = tuple[str, int, int]


@dataclass(slots=True)
class LaneClock:
    """The host's clocks, on which a lane is charged for what the models took for all lanes together."""

    _owed_ns: int = 0

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return SystemClock().wall_ns()

    def monotonic_ns(self) -> int:
        """The host's monotonic clock, and what was charged."""
        return SystemClock().monotonic_ns() + self._owed_ns

    def charge(self, duration_ns: int) -> None:
        """Let time pass that somebody else spent on this lane's behalf."""
        self._owed_ns += duration_ns


@dataclass(slots=True)
class _Answer:
    look: Look | None
    error: str
    spent_ns: int
    asked: int = 1


@dataclass(slots=True)
class SharedModels:
    """The models of one pass, with what they said that not every lane has asked for yet.

    The fuser remembers what it saw, so it must see each sample once and in order, whoever asks first.
    """

    perception: ModelPerception
    lanes: int
    _said: OrderedDict[_Key, _Answer] = field(default_factory=OrderedDict)

    @property
    def waiting(self) -> int:
        """Answers that some lane has not asked for yet."""
        return len(self._said)

    def ask(self, key: _Key, look: Callable[[], Look], clock: LaneClock) -> Look:
        """What the models said of `key`, asked anew when nobody has. Raises `InputError` as they did."""
        known = self._said.get(key)
        if known is None:
            known = self._said[key] = _run(look)
            if len(self._said) > _REMEMBERED:
                self._said.popitem(last=False)
        else:
            known.asked += 1
            clock.charge(known.spent_ns)
        if known.asked == self.lanes:
            del self._said[key]
        if known.look is None:
            raise InputError(known.error)
        return known.look


def _run(look: Callable[[], Look]) -> _Answer:
    clock = SystemClock()
    began = clock.monotonic_ns()
    try:
        return _Answer(look(), "", clock.monotonic_ns() - began)
    except InputError as error:
        return _Answer(None, str(error), clock.monotonic_ns() - began)


class LanePerception:
    """`edge_node.perception.Perception` of one lane."""

    def __init__(self, models: SharedModels, evidence: EvidenceSettings, clock: LaneClock) -> None:
        mine = models.perception.keeping(evidence)
        self.profile, self.classes, self.conditions = mine.profile, mine.classes, mine.conditions
        self.ordinary, self.models = mine.ordinary, mine.models
        self._shared, self._mine, self._clock = models, mine, clock

    def detect(self, sample: Sample) -> Look:
        """See `Perception.detect`."""
        return self._ask("detect", sample, lambda: self._mine.detect(sample))

    def fuse(self, sample: Sample, look: Look) -> Look:
        """See `Perception.fuse`."""
        return self._ask("fuse", sample, lambda: self._mine.fuse(sample, look))

    def encode(self, sample: Sample, look: Look, index: int, track: int, decision: Decision) -> OutboxBlobs:
        """See `Perception.encode`."""
        return self._mine.encode(sample, look, index, track, decision)

    def _ask(self, what: str, sample: Sample, look: Callable[[], Look]) -> Look:
        if self._shared.lanes == 1:
            return look()
        return self._shared.ask((what, sample.source_cursor, sample.time_ns), look, self._clock)
