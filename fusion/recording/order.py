"""Times that cannot be right: a sensor's clock that goes back, or on by many hours at once."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fusion.errors import RecordingError
from fusion.recording.base import EgoPose, RecordingInfo, RecordingReader
from fusion.recording.damage import DamageLog
from fusion.recording.ranged import between, names_between, poses_between, sensors_between, truth_between
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.types import Reading, Truth

LONGEST_PAUSE_NS = 6 * 3600 * 1_000_000_000
"""A sensor that says nothing for longer within one recording had its clock set."""


def fault(last_ns: int, time_ns: int) -> str:
    """What is wrong with a time after another of the same sensor; empty when nothing is."""
    step_ns = time_ns - last_ns
    if step_ns < 0:
        return f"its time goes back by {_shown(-step_ns)}"
    return f"its time jumps on by {_shown(step_ns)}" if step_ns > LONGEST_PAUSE_NS else ""


class OrderedReader:
    """Another reader whose sensors' times are checked as they come.

    A time that is older than the sensor's last, or more than `LONGEST_PAUSE_NS` newer, is an error that names file and
    reading. With `salvage` a reading that stands alone with such a time is left out; where the next one goes on from
    it the clock was set, and nothing is left out. Either is told in `info().damage`.
    """

    def __init__(self, reader: RecordingReader, *, salvage: bool) -> None:
        self._reader, self._salvage = reader, salvage

    @property
    def path(self) -> Path:
        """The recording's file or folder."""
        return self._reader.path

    @cached_property
    def _survey(self) -> _Survey:
        survey = _Survey(self.path)
        for cursor, reading in between(self._reader, ALWAYS, empty=True):
            survey.see(reading.sensor, cursor, reading.capture_time_ns)
        survey.end()
        return survey

    @cached_property
    def _info(self) -> RecordingInfo:
        info = self._reader.info()
        if not self._salvage or not self._survey.log:
            return info
        damaged = replace(info, damage="; ".join(filter(None, (info.damage, str(self._survey.log)))))
        if not self._survey.dropped:
            return damaged
        return replace(damaged, sensors=sensors_between(self, damaged))

    def info(self) -> RecordingInfo:
        """That of the recording; with `salvage` all times are looked at for it."""
        return self._info

    def sizes(self) -> Mapping[str, int]:
        """Those of the recording."""
        return self._reader.sizes()

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """The recording's. Raises `RecordingError` at the first time that cannot be right."""
        return self.between(ALWAYS, start_cursor)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; only their own times are checked."""
        latest: dict[str, int] = {}
        dropped = self._survey.dropped if self._salvage else array("Q")
        for cursor, reading in between(self._reader, times, start_cursor, empty=empty):
            if not self._salvage:
                time_ns = reading.capture_time_ns
                if what := fault(latest.get(reading.sensor, time_ns), time_ns):
                    raise RecordingError(
                        f"{self.path}: reading {cursor} ({reading.sensor}): {what}; salvaging leaves out such a "
                        "reading, or goes on from there"
                    )
                latest[reading.sensor] = time_ns
            elif _holds(dropped, cursor):
                continue
            yield cursor, reading

    def truth(self) -> Iterator[Truth]:
        """The recording's."""
        return self._reader.truth()

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Those of `truth()` in `times`."""
        return truth_between(self._reader, times)

    def poses(self) -> Iterator[EgoPose]:
        """The recording's; nothing when it tells none."""
        return poses_between(self._reader, ALWAYS)

    def names(self) -> Mapping[int, str]:
        """The recording's, by time; empty when it has none."""
        return names_between(self._reader, ALWAYS)


@dataclass(slots=True)
class _Survey:
    """One pass over all times, one reading a sensor in doubt. `dropped` are cursors, in order once it has ended."""

    path: Path
    log: DamageLog = field(default_factory=DamageLog)
    dropped: array[int] = field(default_factory=lambda: array("Q"))
    _latest: dict[str, int] = field(default_factory=dict)
    _doubtful: dict[str, tuple[int, int]] = field(default_factory=dict)

    def see(self, sensor: str, cursor: int, time_ns: int) -> None:
        """Take the next reading of a sensor."""
        last = self._latest.get(sensor, time_ns)
        if sensor in self._doubtful:
            at, doubtful = self._doubtful.pop(sensor)
            if abs(time_ns - doubtful) < abs(time_ns - last):
                self._tell(sensor, at, f"{fault(last, doubtful)}, and goes on from there")
                last = doubtful
            else:
                self._drop(sensor, at, fault(last, doubtful))
        if fault(last, time_ns):
            self._doubtful[sensor] = (cursor, time_ns)
            self._latest[sensor] = last
        else:
            self._latest[sensor] = time_ns

    def end(self) -> None:
        """Nothing more comes: what is in doubt has nothing that speaks for it."""
        for sensor, (cursor, time_ns) in self._doubtful.items():
            self._drop(sensor, cursor, fault(self._latest[sensor], time_ns))
        self._doubtful.clear()
        self.dropped = array("Q", sorted(self.dropped))

    def _drop(self, sensor: str, cursor: int, what: str) -> None:
        self.dropped.append(cursor)
        self._tell(sensor, cursor, f"{what}; left out")

    def _tell(self, sensor: str, cursor: int, what: str) -> None:
        self.log.add(f"{self.path}: reading {cursor} ({sensor}): {what}")


def _holds(cursors: array[int], cursor: int) -> bool:
    at = bisect_left(cursors, cursor)
    return at < len(cursors) and cursors[at] == cursor


def _shown(span_ns: int) -> str:
    return f"{span_ns / 1e9:.9g} s"
