"""The rolling stretch of sound a sample hears: the last seconds before the frame, placed by time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from fusion.errors import InputError
from fusion.types import AudioChunk, Modality, Reading

SLACK_S = 2.0
"""How much more than the window is kept, so that a frame that waited still hears its own past."""
TOLERANCE_NS = 15_000_000
"""How far a chunk may lie from where the one before it ended, and still follow it: stamps of drivers jitter."""


class _Placed(NamedTuple):
    """A chunk `samples` after the moment `anchor_ns`, which makes it begin and end as told."""

    anchor_ns: int
    samples: int
    chunk: AudioChunk
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class AudioWindow:
    """Chunks of one microphone, cut to the window that ends with a frame. Silence stands where nothing was heard.

    Chunks that begin within `TOLERANCE_NS`, and half a chunk, of where the one before them ended are a run: it is laid
    out without a joint from the stamp of its oldest chunk that is held, so that a clock that drifts is followed. Other
    chunks, and those of a run whose stamps are right to half a sample, stand at their own stamps.
    """

    sensor: str
    sample_rate_hz: int
    window_s: float
    _chunks: deque[tuple[int, int, AudioChunk]] = field(default_factory=lambda: deque(maxlen=4096))
    _layout: list[_Placed] | None = None

    @property
    def last_ns(self) -> int | None:
        """When the chunk that came last begins, None when there is none."""
        return self._chunks[-1][1] if self._chunks else None

    def push(self, cursor: int, reading: Reading) -> None:
        """Keep a chunk. Raises `InputError` on another sample rate."""
        chunk = reading.payload
        if not isinstance(chunk, AudioChunk) or chunk.sample_rate_hz != self.sample_rate_hz:
            rate = getattr(chunk, "sample_rate_hz", 0)
            raise InputError(f"sensor {self.sensor}: sound at {rate} Hz where the task says {self.sample_rate_hz} Hz")
        start, last = reading.capture_time_ns, self.last_ns
        if last is not None and last - start > (SLACK_S + self.window_s) * 1e9:
            self._chunks.clear()
        self._chunks.append((cursor, start, chunk))
        self._layout = None
        self._trim()

    @property
    def cursors(self) -> Iterator[int]:
        """Source positions of the chunks that are held."""
        return (cursor for cursor, _, _ in self._chunks)

    def end_ns(self, time_ns: int) -> int:
        """Up to when there is sound, at most `time_ns`."""
        ends = (placed.end_ns for placed in self._placed() if placed.start_ns < time_ns)
        return min(time_ns, max(ends, default=0))

    def until(self, time_ns: int) -> Reading | None:
        """The window that ends at `end_ns(time_ns)`, `window_s` of int16; None when there was no sound yet."""
        if not any(placed.start_ns < time_ns for placed in self._placed()):
            return None
        length = round(self.window_s * self.sample_rate_hz)
        begin_ns = self.end_ns(time_ns) - round(length * 1e9 / self.sample_rate_hz)
        pcm = np.zeros(length, np.int16)
        for placed in self._placed():
            first = round((placed.anchor_ns - begin_ns) * self.sample_rate_hz / 1e9) + placed.samples
            low, high = max(0, first), min(length, first + len(placed.chunk.pcm))
            if low < high:
                pcm[low:high] = placed.chunk.pcm[low - first : high - first]
        return Reading(self.sensor, Modality.SPEECH, begin_ns, AudioChunk(pcm, self.sample_rate_hz))

    def _placed(self) -> list[_Placed]:
        """Where each chunk stands: told by those that are held alone, so that a restart tells the same."""
        if self._layout is None:
            self._layout = [placed for run in self._runs() for placed in self._laid_out(run)]
        return self._layout

    def _runs(self) -> Iterator[list[tuple[int, AudioChunk]]]:
        run: list[tuple[int, AudioChunk]] = []
        samples = 0
        for _, start, chunk in self._chunks:
            if run:
                longer = max(len(run[-1][1].pcm), len(chunk.pcm))
                tolerance_ns = min(TOLERANCE_NS, longer * 1e9 / self.sample_rate_hz / 2)
                if abs(start - run[0][0] - samples * 1e9 / self.sample_rate_hz) > tolerance_ns:
                    yield run
                    run, samples = [], 0
            run.append((start, chunk))
            samples += len(chunk.pcm)
        if run:
            yield run

    def _laid_out(self, run: list[tuple[int, AudioChunk]]) -> list[_Placed]:
        anchor_ns, sample_ns = run[0][0], 1e9 / self.sample_rate_hz
        befores = list(accumulate((len(chunk.pcm) for _, chunk in run[:-1]), initial=0))
        off = (abs(s - anchor_ns - n * sample_ns) for (s, _), n in zip(run, befores, strict=True))
        if all(distance_ns <= sample_ns / 2 + 1 for distance_ns in off):
            return [_Placed(start, 0, chunk, start, self._end(start, chunk)) for start, chunk in run]
        starts = [anchor_ns + round(n * sample_ns) for n in befores]
        return [
            _Placed(anchor_ns, n, chunk, start, self._end(start, chunk))
            for (_, chunk), n, start in zip(run, befores, starts, strict=True)
        ]

    def _end(self, start: int, chunk: AudioChunk) -> int:
        return start + round(len(chunk.pcm) * 1e9 / self.sample_rate_hz)

    def _trim(self) -> None:
        newest = max(self._end(start, chunk) for _, start, chunk in self._chunks)
        horizon = newest - round((self.window_s + SLACK_S) * 1e9)
        while len(self._chunks) > 1 and self._end(self._chunks[0][1], self._chunks[0][2]) < horizon:
            self._chunks.popleft()
