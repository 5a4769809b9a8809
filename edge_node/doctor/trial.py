"""Every engine that runs here on the task's own models and pictures: how fast, and whether it answers the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_node.config import EngineSettings
from edge_node.doctor.agreement import Agreement, compare
from edge_node.perception import Detector, Fuser, ModelPerception
from fusion.clock import Clock, SystemClock
from fusion.codec import Profile
from fusion.engines import Precision
from fusion.errors import FusionError
from fusion.perception.detector import DetectorResult
from fusion.task import Task
from fusion.types import Image, Sample

WARM = 3
"""Samples that are looked at before anything is timed."""
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the graphs."""

    backend: str
    threads: int
    precision: str

    def settings(self, base: EngineSettings) -> EngineSettings:
        """`base` run this way."""
        chosen = {"backend": self.backend, "threads": self.threads, "precision": self.precision}
        return base.model_copy(update=chosen)

    def __str__(self) -> str:
        return f"{self.backend}, {self.threads} thread{'s' * (self.threads > 1)}, {self.precision}"


REFERENCE = Candidate("onnxruntime", 1, Precision.F32.value)


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """What came of a candidate: milliseconds a sample, and the agreement with the reference, or why it cannot run."""

    candidate: Candidate
    detector_ms: tuple[float, ...] = ()
    perception_ms: tuple[float, ...] = ()
    agreement: Agreement | None = None
    error: str = ""

    @property
    def fits(self) -> bool:
        """Whether it runs and agrees."""
        return self.agreement is not None and self.agreement.fits

    @property
    def p50(self) -> float:
        """Median of the whole perception, milliseconds."""
        return float(np.percentile(self.perception_ms, 50))


Parts = Callable[[EngineSettings], tuple[Detector, Fuser | None]]


@dataclass(slots=True)
class Trial:
    """`load` makes detector and fusion model as settings say. `samples` are looked at in order, `rounds` times."""

    task: Task
    camera: str
    load: Parts
    samples: Sequence[Sample]
    base: EngineSettings
    rounds: int = 1
    clock: Clock = field(default_factory=SystemClock)

    def run(self, candidates: Iterable[Candidate]) -> Iterator[Tried]:
        """The reference first, then each candidate. Raises what the reference raises; others' errors are told."""
        reference, answers = self._measure(REFERENCE)
        yield Tried(REFERENCE, *reference, compare(answers, answers))
        for candidate in candidates:
            if candidate == REFERENCE:
                continue
            try:
                times, found = self._measure(candidate)
            except FusionError as error:
                yield Tried(candidate, error=str(error))
            else:
                yield Tried(candidate, *times, compare(answers, found))

    def _measure(
        self, candidate: Candidate
    ) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], list[DetectorResult]]:
        detector, fuser = self.load(candidate.settings(self.base))
        timed = _TimedDetector(detector, self.clock)
        perception = ModelPerception(self.task, self.camera, timed, fuser, {})
        for sample in self.samples[:WARM]:
            perception.fuse(sample, perception.detect(sample))
        timed.spent_ms.clear()
        timed.answers.clear()
        whole = []
        for sample in [*self.samples] * self.rounds:
            began = self.clock.monotonic_ns()
            perception.fuse(sample, perception.detect(sample))
            whole.append((self.clock.monotonic_ns() - began) / 1e6)
        return (tuple(timed.spent_ms), tuple(whole)), timed.answers[: len(self.samples)]


class _TimedDetector:
    """A detector that remembers its answers and how long each took."""

    def __init__(self, detector: Detector, clock: Clock) -> None:
        self.profile: Profile = detector.profile
        self.spent_ms: list[float] = []
        self.answers: list[DetectorResult] = []
        self._detector, self._clock = detector, clock

    def run(self, image: Image) -> DetectorResult:
        """See `Detector`."""
        began = self._clock.monotonic_ns()
        found = self._detector.run(image)
        self.spent_ms.append((self._clock.monotonic_ns() - began) / 1e6)
        self.answers.append(found)
        return found


def candidates(engines: dict[str, tuple[Precision, ...]], threads: int) -> list[Candidate]:
    """Every engine of `engines` x 1..`threads` threads x its precisions. A GPU's engine is tried with one count."""
    steps = [step for step in _STEPS if step < threads] + [threads]
    return [
        Candidate(name, count, precision.value)
        for name, precisions in engines.items()
        for count in ([threads] if name in {"cuda", "tensorrt"} else steps)
        for precision in precisions
    ]


def choose(tried: Iterable[Tried]) -> Tried | None:
    """The fastest median of those that agree."""
    return min((one for one in tried if one.fits), key=lambda one: one.p50, default=None)
