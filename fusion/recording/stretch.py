"""A stretch of a recording as a recording of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fusion.recording.base import EgoPose, RecordingInfo, RecordingReader
from fusion.recording.ranged import between, first_ns, names_between, poses_between, sensors_between, truth_between
from fusion.recording.time_range import TimeRange
from fusion.types import Reading, Truth


class Stretch:
    """The readings, truths and poses of another reader whose capture times lie in `times`.

    Cursors are the recording's own, and so is the content's hash: ids that hang on both are those of a run over the
    whole. Stretches side by side share no reading and lose none, whatever the order of times in the recording.
    """

    def __init__(self, reader: RecordingReader, times: TimeRange) -> None:
        self._reader, self._times = reader, times

    @classmethod
    def of_seconds(cls, reader: RecordingReader, from_s: float, to_s: float | None) -> Stretch:
        """From `from_s` up to `to_s` seconds after the first reading.

        From 0 there is no lower bound and with None no upper one, so that first and last stretch hold what a clock
        that was set has put outside.
        """
        return cls(reader, cls.range_of(reader.info(), from_s, to_s))

    @staticmethod
    def range_of(info: RecordingInfo, from_s: float, to_s: float | None) -> TimeRange:
        """The capture times that `of_seconds` takes."""
        begin = first_ns(info)
        low = begin + round(from_s * 1e9) if from_s > 0 else None
        return TimeRange(low, None if to_s is None else begin + round(to_s * 1e9))

    @property
    def path(self) -> Path:
        """The recording's file or folder."""
        return self._reader.path

    @cached_property
    def _info(self) -> RecordingInfo:
        whole = self._reader.info()
        truths = sum(1 for _ in truth_between(self._reader, self._times)) if whole.truths else 0
        return replace(whole, sensors=sensors_between(self._reader, whole, self._times), truths=truths)

    def info(self) -> RecordingInfo:
        """That of the recording, but for sensors and truths; `byte_size` is of all of it."""
        return self._info

    def sizes(self) -> Mapping[str, int]:
        """Those of the whole recording: how much of it is stored for a stretch is not told."""
        return self._reader.sizes()

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """Those of the stretch, in the recording's order and with its cursors."""
        return between(self._reader, self._times, start_cursor)

    def stamps(self) -> Iterator[tuple[int, Reading]]:
        """As `readings()`, with empty payloads."""
        return between(self._reader, self._times, empty=True)

    def truth(self) -> Iterator[Truth]:
        """The moments of the stretch."""
        return truth_between(self._reader, self._times)

    def poses(self) -> Iterator[EgoPose]:
        """The poses of the stretch; nothing when the recording tells none."""
        return poses_between(self._reader, self._times)

    def names(self) -> Mapping[int, str]:
        """The names of the stretch's moments; empty when the recording has none."""
        return names_between(self._reader, self._times)
