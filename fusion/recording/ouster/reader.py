"""Ouster LiDARs' raw packets as recordings: network captures with their metadata, and bags of nothing but packets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.recording.capture.capture_file import is_capture
from fusion.recording.content import check_request, content_of
from fusion.recording.ouster.packets import CapturePackets, PacketSource
from fusion.recording.ouster.scans import Frame, Scan, ScanMaker, brightness, brightness_scale, clock_note, frames
from fusion.recording.velodyne.capture import holds_velodyne
from fusion.task import Task
from fusion.types import Modality, Reading, Truth

SENSOR = "ouster"


@dataclass(slots=True)
class _Survey:
    """What decoding every turn told. `torn` are turns at either end of which the capture has only a part."""

    times_ns: list[int] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    returns: int = 0
    second_returns: int = 0
    torn: int = 0
    gapped: int = 0
    packet_bytes: int = 0
    arrived_ns: int = 0


class OusterReader:
    """Reads the packets of one Ouster LiDAR, a reading for each turn.

    Capture time is the first column's timestamp, of the clock the sensor was set to: `info().notes["clock"]` tells
    which. A cursor is a turn's number in the capture. A turn the capture begins or ends in is left out; one with
    columns lost on the way is a reading, and both are counted in `info().notes`.
    """

    def __init__(self, source: PacketSource) -> None:
        self._source = source
        self._maker = ScanMaker(source.info, source.path)

    @staticmethod
    def can_read(path: Path) -> bool:
        """A network capture that does not begin with a Velodyne's packets."""
        return path.is_file() and is_capture(path) and not holds_velodyne(path)

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open the capture at `path`. Raises `RecordingError` where it is damaged or no metadata fits."""
        check_request(path, "a packet capture", {SENSOR}, task, split)
        return cls(CapturePackets(path, salvage=salvage))

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self._source.path

    @cached_property
    def _survey(self) -> _Survey:
        survey = _Survey()
        for frame in frames(self._source.packets(survey.others), survey.others, self._maker.most_packets):
            survey.packet_bytes += sum(packet.buf.nbytes for packet in frame.packets)
            survey.arrived_ns = survey.arrived_ns or int(frame.packets[0].host_timestamp)
            scan = self._maker.scan(frame)
            if scan is None or _is_torn(frame, scan):
                survey.torn += 1
                continue
            survey.times_ns.append(scan.first_ns)
            survey.gapped += not scan.whole
            survey.returns += scan.returns
            survey.second_returns += scan.second_returns
        return survey

    @cached_property
    def _intensity(self) -> tuple[str, float]:
        """The field of intensity and what 1 is, by the first turn: the same wherever reading begins."""
        first = next(self._scans(0), None)
        return (brightness(first[1]), brightness_scale(first[1])) if first else ("", 1.0)

    @cached_property
    def _content(self) -> tuple[str, int]:
        return content_of(self.path, self._source.files)

    def info(self) -> RecordingInfo:
        """What the capture holds; every turn is decoded once."""
        digest, size = self._content
        survey = self._survey
        body = np.asarray(self._source.info.sensor_to_body, np.float64)
        return RecordingInfo(
            path=self.path,
            format="ouster",
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors={SENSOR: SensorInfo.of_times(Modality.LIDAR, self._source.info.prod_line, survey.times_ns)},
            rig=Rig({}, {SENSOR: body}),
            truths=0,
            notes={**self._source.notes, **dict(self._remarks(survey))},
            unread=(*self._source.unread, *(f"{kind} packets ({n})" for kind, n in sorted(survey.others.items()) if n)),
            damage=self._source.damage,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the LiDAR's packets."""
        return {SENSOR: self._survey.packet_bytes}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """A sweep for each turn; the packets of turns up to `start_cursor` are not decoded."""
        any_turn, full = False, self._intensity[1]
        for number, scan in self._scans(start_cursor):
            any_turn = True
            yield number, Reading(SENSOR, Modality.LIDAR, scan.first_ns, self._maker.sweep(scan, full))
        if not any_turn and start_cursor <= 0:
            raise RecordingError(f"{self.path}: no whole turn of the sensor in it")

    def truth(self) -> Iterator[Truth]:
        """Nothing: packets carry no truth."""
        return iter(())

    def _scans(self, after: int) -> Iterator[tuple[int, Scan]]:
        others: Counter[str] = Counter()
        for frame in frames(self._source.packets(others), others, self._maker.most_packets):
            if frame.number <= after:
                continue
            scan = self._maker.scan(frame)
            if scan is not None and not _is_torn(frame, scan):
                yield frame.number, scan

    def _remarks(self, survey: _Survey) -> Iterator[tuple[str, str]]:
        about = self._source.info
        identity = np.array_equal(np.asarray(about.sensor_to_body), np.eye(4))
        yield "sensor", f"{about.prod_line} {about.sn}, firmware {about.fw_rev}, {about.format.udp_profile_lidar}"
        yield "frames", "ego is the sensor's own frame" if identity else "ego is the body of the metadata's extrinsics"
        if survey.times_ns:
            yield "clock", clock_note(survey.times_ns[0])
        if survey.arrived_ns:
            at = datetime.fromtimestamp(survey.arrived_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
            yield "recorded", f"from {at} UTC on, by the recorder's clock"
        name, full = self._intensity
        yield f"intensity of {SENSOR}", f"field {name} / {full:g}" if name else "0: the packets have none"
        yield f"returns of {SENSOR}", f"{survey.returns}; beams without one are left out"
        if survey.second_returns:
            yield "second returns", f"{survey.second_returns} left out: the first return of a beam is read"
        if survey.torn:
            yield "torn turns", f"{survey.torn} left out: the capture begins or ends within them"
        if survey.gapped:
            yield "gaps", f"{survey.gapped} turns lack columns whose packets were lost"


def _is_torn(frame: Frame, scan: Scan) -> bool:
    """Whether the capture has only a part of the turn because it begins or ends in it."""
    return not scan.whole and (frame.number == 1 or frame.last)
