"""Packets of an Ouster LiDAR gathered into scans, and scans made into sweeps, by the sensor maker's own library.

Frames: Ouster's sensor frame is x forward (away from the cable), y left, z up, in the middle of the base.
"""

from __future__ import annotations

import importlib
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import RecordingError
from fusion.recording.optional import optional_module
from fusion.recording.points.point_fields import full_scale
from fusion.types import PointCloud

SDK_ERRORS = (RuntimeError, ValueError, TypeError, LookupError)
"""What the library raises for files it does not like."""
_MAX_CELLS = 1 << 24
_BRIGHTNESS = ("REFLECTIVITY", "SIGNAL")
_SINCE_1973_NS = 10**17


def sdk(name: str, path: Path) -> Any:
    """`ouster.sdk.NAME`, which reading `path` needs; raises `RecordingError` saying what to install."""
    connect = sqlite3.connect
    optional_module("ouster.sdk", path)
    sqlite3.connect = connect  # the package replaces it by one that lets threads share connections, for all callers
    return importlib.import_module(f"ouster.sdk.{name}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One turn of the sensor: its packets, its number in the capture from 1, and whether it is the last."""

    number: int
    packets: tuple[Any, ...]
    last: bool


def frames(packets: Iterable[Any], others: Counter[str], most: int) -> Iterator[Frame]:
    """Packets by turn.

    One that comes when the next turn has begun already is left out and counted in `others`, and so are those beyond
    the first `most` of a turn, whose number stands still.
    """
    number, current, previous = 0, None, None
    gathered: list[Any] = []
    for packet in packets:
        turn = packet.frame_id()
        if turn == previous:
            others["late"] += 1
            continue
        if turn != current:
            if gathered:
                yield Frame(number, tuple(gathered), last=False)
            number, previous, current, gathered = number + 1, current, turn, []
        if len(gathered) == most:
            others["endless turn's"] += 1
            continue
        gathered.append(packet)
    if gathered:
        yield Frame(number, tuple(gathered), last=True)


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A turn decoded: the library's frame, the time of its first column, and whether no column is missing."""

    frame: Any
    first_ns: int
    whole: bool

    @property
    def returns(self) -> int:
        """How many beams got an answer."""
        return int(np.count_nonzero(self.frame.field("RANGE")))

    @property
    def second_returns(self) -> int:
        """How many beams got a second one."""
        return int(np.count_nonzero(self.frame.field("RANGE2"))) if "RANGE2" in self.frame.fields else 0


class ScanMaker:
    """Makes scans and sweeps of one sensor's packets, of which a turn has half of `most_packets`."""

    def __init__(self, info: Any, path: Path) -> None:
        self._core = sdk("core", path)
        self._info = info
        self._project = self._core.XYZLut(info, False)
        self.most_packets = 2 * math.ceil(info.format.columns_per_frame / max(1, info.format.columns_per_packet))

    def scan(self, frame: Frame) -> Scan | None:
        """The turn decoded; None when not one of its columns is valid."""
        batcher, found = self._core.FrameBatcher(self._info), self._core.LidarFrame(self._info)
        for packet in frame.packets:
            batcher.batch(packet, found)
        valid = np.flatnonzero(np.asarray(found.status) & 1)
        if not valid.size:
            return None
        first_ns = int(np.asarray(found.timestamp)[valid].min())
        return Scan(found, first_ns, bool(found.complete(self._info.format.column_window)))

    def sweep(self, scan: Scan, full: float) -> PointCloud:
        """First returns in the sensor frame, intensity `brightness` / `full`; offsets are those of the columns."""
        distance = scan.frame.field("RANGE")
        hit = (distance > 0) & (np.asarray(scan.frame.status) & 1).astype(bool)
        points = np.empty((np.count_nonzero(hit), 4), np.float32)
        points[:, :3] = self._project(distance)[hit]
        name = brightness(scan)
        points[:, 3] = np.clip(scan.frame.field(name)[hit] / full, 0, 1) if name else 0
        columns = (np.asarray(scan.frame.timestamp).astype(np.int64) - scan.first_ns) * 1e-9
        offsets = np.broadcast_to(columns.astype(np.float32), distance.shape)[hit]
        return PointCloud(points, offsets)


def brightness(scan: Scan) -> str:
    """The field intensity is made from: reflectivity where the profile has it, else signal; empty for none."""
    return next((name for name in _BRIGHTNESS if name in scan.frame.fields), "")


def brightness_scale(scan: Scan) -> float:
    """What intensity 1 is, judged by the returns of one scan."""
    name = brightness(scan)
    return full_scale(scan.frame.field(name)[scan.frame.field("RANGE") > 0]) if name else 1.0


def clock_note(first_ns: int) -> str:
    """What clock the sensor's times are of."""
    if first_ns < _SINCE_1973_NS:
        return f"the sensor's own, since it was switched on, not UTC (it begins at {first_ns * 1e-9:.3f} s)"
    return "since 1970, as the sensor was set (PTP or GPS)"


def read_metadata(text: str, path: Path) -> Any:
    """The library's `SensorInfo`; raises `RecordingError` when the JSON describes no sensor."""
    core = sdk("core", path)
    try:
        info = core.SensorInfo(text)
        height, width = info.format.pixels_per_column, info.format.columns_per_frame
        sizes = {len(info.beam_altitude_angles), len(info.beam_azimuth_angles)}
        if not 0 < height * width <= _MAX_CELLS or sizes != {height}:
            raise ValueError(f"{height} beams by {width} columns, with {sorted(sizes)} beam angles")
        core.XYZLut(info, False)
    except SDK_ERRORS as error:
        raise RecordingError(f"{path}: not the metadata of an Ouster sensor ({' '.join(str(error).split())})") from None
    return info
