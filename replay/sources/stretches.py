"""Recordings cut in stretches of time, so that a run takes a part of them, or many workers share one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from fusion.errors import InputError, RecordingError, UnavailableError
from fusion.recording.base import RecordingInfo, RecordingReader
from fusion.recording.ranged import between, first_ns, last_ns
from fusion.recording.stretch import Stretch
from fusion.recording.time_range import TimeRange
from replay.running.plan import Job
from replay.sources.find import Tell
from replay.sources.options import Moment, SourceOptions

MOST_SHARDS = 10_000
_CLOCK_NS = 10**9 * 86_400 * 365
"""Times below a year after 1970 are no wall clock's."""


def cut(
    jobs: Sequence[Job], options: SourceOptions, opened: Callable[[Job], RecordingReader], tell: Tell
) -> tuple[Job, ...]:
    """The jobs, each restricted to the stretch that is asked for and cut in shards.

    A recording without anything in the stretch is passed over and told, one that cannot be read is left uncut: the run
    tells what is wrong with it. Raises `InputError` when no recording has anything in the stretch, `UnavailableError`
    for one that is away while times of day must be found in it.
    """
    begin, end = options.begin, options.end
    absolute = begin.unix_ns is not None or (end is not None and end.unix_ns is not None)
    if not absolute and not options.shard_s:
        return tuple(replace(job, from_s=begin.seconds, to_s=end.seconds if end else None) for job in jobs)
    found: list[Job] = []
    for job in jobs:
        try:
            reader = opened(job)
            bounds = _bounds(reader.info(), begin, end)
            mine = _shards(job, reader, *bounds, options.shard_s) if bounds else []
        except (RecordingError, UnavailableError) as error:
            if absolute and isinstance(error, UnavailableError):
                raise
            seconds = end.seconds if end is not None and end.unix_ns is None else None
            found.append(replace(job, from_s=begin.seconds, to_s=seconds))
            continue
        if not mine:
            tell(f"{job.source}: nothing of it is in the stretch that is asked for; passed over")
        found.extend(mine)
    if jobs and not found:
        raise InputError("no recording has anything in the stretch that is asked for; see --from and --to")
    return tuple(found)


def _bounds(info: RecordingInfo, begin: Moment, end: Moment | None) -> tuple[float, float | None] | None:
    """The stretch in seconds after the first reading; None where nothing is in it. Raises `InputError`."""
    first, last = first_ns(info), last_ns(info)
    low = _seconds(info, begin, first)
    high = None if end is None else _seconds(info, end, first)
    if low > (last - first) / 1e9 or (high is not None and high <= max(low, 0.0)):
        return None
    return max(low, 0.0), high


def _seconds(info: RecordingInfo, moment: Moment, first: int) -> float:
    if moment.unix_ns is None:
        return moment.seconds
    if first < _CLOCK_NS:
        raise InputError(f"{info.path}: its times are no wall clock's; give --from and --to in seconds")
    return (moment.unix_ns - first) / 1e9


def _shards(job: Job, reader: RecordingReader, low: float, high: float | None, length: float) -> list[Job]:
    """The stretch as jobs of `length` seconds, but for those in which nothing was captured."""
    if not length:
        return [replace(job, from_s=low, to_s=high)]
    info = reader.info()
    lasts = (last_ns(info) - first_ns(info)) / 1e9
    ends = lasts if high is None else min(high, lasts)
    count = max(1, math.ceil((ends - low) / length))
    if count > MOST_SHARDS:
        raise InputError(f"{info.path}: {count} shards of {length:g} s; at most {MOST_SHARDS}: give a longer --shard")
    starts = [low + number * length for number in range(count)]
    stops = [*starts[1:], high]
    width = len(str(count - 1))
    used = _used(reader, [Stretch.range_of(info, *bounds) for bounds in zip(starts, stops, strict=True)])
    return [
        replace(job, name=f"{job.name}@{number:0{width}}" if count > 1 else job.name, from_s=start, to_s=stop)
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True))
        if number in used
    ]


def _used(reader: RecordingReader, ranges: Sequence[TimeRange]) -> set[int]:
    """Which of the ranges, which follow each other, hold a reading."""
    lows = [times.low_ns for times in ranges[1:] if times.low_ns is not None]
    whole = TimeRange(ranges[0].low_ns, ranges[-1].high_ns)
    moments = (reading.capture_time_ns for _, reading in between(reader, whole, empty=True))
    return {bisect_right(lows, time_ns) for time_ns in moments}
