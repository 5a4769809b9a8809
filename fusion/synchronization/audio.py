"""The rolling stretch of sound a sample hears: the last seconds before the frame, placed by time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fusion.errors import InputError
from fusion.types import AudioChunk, Modality, Reading

SLACK_S = 2.0
"""How much more than the window is kept, so that a frame that waited still hears its own past."""


@dataclass(slots=True)
class AudioWindow:
    """Chunks of one microphone, cut to the window that ends with a frame. Silence stands where nothing was heard."""

    sensor: str
    sample_rate_hz: int
    window_s: float
    _chunks: deque[tuple[int, int, AudioChunk]] = field(default_factory=lambda: deque(maxlen=4096))

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
        self._trim()

    @property
    def cursors(self) -> Iterator[int]:
        """Source positions of the chunks that are held."""
        return (cursor for cursor, _, _ in self._chunks)

    def end_ns(self, time_ns: int) -> int:
        """Up to when there is sound, at most `time_ns`."""
        ends = (self._end(start, chunk) for _, start, chunk in self._chunks if start < time_ns)
        return min(time_ns, max(ends, default=0))

    def until(self, time_ns: int) -> Reading | None:
        """The window that ends at `end_ns(time_ns)`, `window_s` of int16; None when there was no sound yet."""
        if not any(start < time_ns for _, start, _ in self._chunks):
            return None
        length = round(self.window_s * self.sample_rate_hz)
        begin_ns = self.end_ns(time_ns) - round(length * 1e9 / self.sample_rate_hz)
        pcm = np.zeros(length, np.int16)
        for _, start, chunk in self._chunks:
            first = round((start - begin_ns) * self.sample_rate_hz / 1e9)
            low, high = max(0, first), min(length, first + len(chunk.pcm))
            if low < high:
                pcm[low:high] = chunk.pcm[low - first : high - first]
        return Reading(self.sensor, Modality.SPEECH, begin_ns, AudioChunk(pcm, self.sample_rate_hz))

    def _end(self, start: int, chunk: AudioChunk) -> int:
        return start + round(len(chunk.pcm) * 1e9 / self.sample_rate_hz)

    def _trim(self) -> None:
        newest = max(self._end(start, chunk) for _, start, chunk in self._chunks)
        horizon = newest - round((self.window_s + SLACK_S) * 1e9)
        while len(self._chunks) > 1 and self._end(self._chunks[0][1], self._chunks[0][2]) < horizon:
            self._chunks.popleft()
