"""Network captures of Velodyne LiDARs as recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.recording.content import check_task, content_of
from fusion.recording.velodyne.capture import VelodyneCapture, holds_velodyne
from fusion.recording.velodyne.packets import PACKET_BYTES
from fusion.recording.velodyne.sweeps import sweep
from fusion.recording.velodyne.turns import Turn, TurnGatherer
from fusion.task import Task
from fusion.types import Modality, Reading, Truth

SENSOR = "velodyne"


@dataclass(slots=True)
class _Survey:
    """What gathering every turn told. `torn` are packets of turns that the capture does not hold whole."""

    gatherer: TurnGatherer
    times_ns: list[int] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    returns: int = 0
    packets: int = 0

    @property
    def torn(self) -> int:
        return self.gatherer.outside + self.gatherer.held


class VelodyneReader:
    """Reads the packets of one Velodyne LiDAR, a reading for each turn, made as from a live sensor.

    Capture time is when the turn's first packet was captured, by the recorder's clock. A cursor is a turn's number in
    the capture. A turn the capture begins or ends in is left out, and `info().notes` counts its packets.
    """

    def __init__(self, capture: VelodyneCapture) -> None:
        self._capture = capture

    @staticmethod
    def can_read(path: Path) -> bool:
        """A network capture with a Velodyne's data packets near its beginning."""
        return path.is_file() and holds_velodyne(path)

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open the capture at `path`; `split` chooses a sensor, `[ADDRESS][:PORT][?model=NAME]`.

        Raises `RecordingError` where the capture is damaged, or which sensor or which model it is has to be said.
        """
        check_task(path, {SENSOR}, task)
        return cls(VelodyneCapture(path, split, salvage=salvage))

    @property
    def path(self) -> Path:
        """The file."""
        return self._capture.path

    @cached_property
    def _survey(self) -> _Survey:
        survey = _Survey(self._gatherer())
        for turn in self._turns(survey.gatherer, survey.others):
            survey.times_ns.append(turn.arrived_ns)
            survey.packets += len(turn.packets)
            survey.returns += len(sweep(turn, self._capture.model).points)
        return survey

    @cached_property
    def _content(self) -> tuple[str, int]:
        return content_of(self.path, [self.path])

    def info(self) -> RecordingInfo:
        """What the capture holds; every turn is decoded once."""
        digest, size = self._content
        survey = self._survey
        return RecordingInfo(
            path=self.path,
            format="velodyne",
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors={SENSOR: SensorInfo.of_times(Modality.LIDAR, self._capture.model.name, survey.times_ns)},
            rig=Rig({}, {SENSOR: np.eye(4)}),
            truths=0,
            notes=dict(self._remarks(survey)),
            unread=tuple(f"{kind} packets ({count})" for kind, count in sorted(survey.others.items())),
            damage=self._capture.damage,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the packets that turns were made of."""
        return {SENSOR: self._survey.packets * PACKET_BYTES}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """A sweep for each turn; the packets of turns up to `start_cursor` are not made into sweeps."""
        number = 0
        for number, turn in enumerate(self._turns(self._gatherer(), Counter()), 1):
            if number > start_cursor:
                payload = sweep(turn, self._capture.model)
                yield number, Reading(SENSOR, Modality.LIDAR, turn.arrived_ns, payload)
        if not number:
            raise RecordingError(f"{self.path}: no whole turn of the sensor in it")

    def truth(self) -> Iterator[Truth]:
        """Nothing: packets carry no truth."""
        return iter(())

    def _gatherer(self) -> TurnGatherer:
        return TurnGatherer(self._capture.model, told=self._capture.told)

    def _turns(self, gatherer: TurnGatherer, others: Counter[str]) -> Iterator[Turn]:
        for data, time_ns in self._capture.packets(others):
            yield from gatherer.push(data, time_ns)

    def _remarks(self, survey: _Survey) -> Iterator[tuple[str, str]]:
        told = ", the model as told" if self._capture.told else ""
        yield "sensor", f"{self._capture.model.name} at {self._capture}, {self._capture.mode}{told}"
        yield "frames", "ego is the sensor's own frame"
        yield "clock", "the recorder's: when the first packet of a turn was captured"
        yield f"intensity of {SENSOR}", "reflectivity / 255"
        yield f"returns of {SENSOR}", f"{survey.returns}; beams without one are left out"
        if survey.torn:
            yield "torn turns", f"{survey.torn} packets left out: of turns that the capture does not hold whole"
        refused = survey.gatherer.refused
        if refused:
            yield "left out", ", ".join(f"{count} packets: {reason}" for reason, count in sorted(refused.items()))
