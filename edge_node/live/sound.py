"""When the chunks of a stream of sound began, by the host's clock."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.types import AudioChunk

_DRIFT_NS = 50_000_000
"""How far the count of samples may be from the host's clock before it is set anew."""


@dataclass(slots=True)
class SoundTimes:
    """Counts samples from the first chunk's arrival, so that chunks meet without a gap.

    Set anew when the count is 50 ms from the host's clock or sound was lost.
    """

    _next_ns: int = 0

    def start_ns(self, chunk: AudioChunk, heard_ns: int, *, lost: bool = False) -> int:
        """The time of a chunk's first sample, which by its arrival was heard at `heard_ns`; `lost`: sound before it."""
        start = heard_ns if lost or abs(heard_ns - self._next_ns) > _DRIFT_NS else self._next_ns
        self._next_ns = start + duration_ns(chunk)
        return start


def duration_ns(chunk: AudioChunk) -> int:
    """How long a chunk lasts."""
    return round(len(chunk.pcm) * 1e9 / chunk.sample_rate_hz)
