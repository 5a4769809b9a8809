"""The sound track of a video file: decoded, averaged to mono, and laid out in chunks by its own times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.recording.media.sound_chunks import CHUNK_NS, check_rate, chunk_count, chunks_of, first_sample
from fusion.recording.media.video_file import Report, VideoFile
from fusion.types import Float64Array, Int16Array

_TOLERANCE_S = Fraction(15, 1000)
"""How far a frame of sound may lie from where the one before it ended: containers round times to a millisecond."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Sound without a gap: when it begins by the file's clock, and how many samples it has."""

    start: Fraction
    samples: int


@dataclass(frozen=True, slots=True)
class SoundIndex:
    """What a sound track holds. `overlap` samples were left out, for being at a time that had been told already."""

    encoding: str
    rate_hz: int
    channels: int
    stretches: tuple[Stretch, ...]
    overlap: int
    stored_bytes: int

    @property
    def chunks(self) -> tuple[int, ...]:
        """Chunks by stretch."""
        return tuple(chunk_count(stretch.samples, self.rate_hz) for stretch in self.stretches)

    def times_ns(self, origin: Fraction) -> list[int]:
        """When each chunk begins, counted from `origin`."""
        starts = [nanoseconds(stretch.start - origin) for stretch in self.stretches]
        return [start + CHUNK_NS * i for start, count in zip(starts, self.chunks, strict=True) for i in range(count)]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Mono samples of the stretch that begins at `start`; `overlap` were cut off."""

    start: Fraction
    samples: Float64Array
    overlap: int


def nanoseconds(seconds: Fraction) -> int:
    """The nearest integer number of nanoseconds."""
    return (2_000_000_000 * seconds.numerator + seconds.denominator) // (2 * seconds.denominator)


def index_sound(file: VideoFile, report: Report) -> SoundIndex:
    """Decode the sound track once, to learn how long it is. Raises `RecordingError` for a rate that is not read."""
    with file.opened() as container:
        context = file.sound_stream(container).codec_context
        encoding, rate_hz, channels = str(context.name), int(context.sample_rate), int(context.channels)
    try:
        check_rate(rate_hz)
    except InputError as error:
        raise RecordingError(f"{file.path}: {error}") from None
    stretches: list[Stretch] = []
    overlap = 0
    for start, blocks in groupby(_blocks(file, rate_hz, report), key=lambda block: block.start):
        samples = 0
        for block in blocks:
            samples, overlap = samples + len(block.samples), overlap + block.overlap
        stretches.append(Stretch(start, samples))
    return SoundIndex(encoding, rate_hz, channels, tuple(stretches), overlap, _stored_bytes(file, report))


def read_sound(file: VideoFile, index: SoundIndex, start: int, report: Report) -> Iterator[tuple[int, Int16Array]]:
    """Chunks from number `start` (from 0) on, with their numbers.

    The track is decoded from its beginning, since codecs of sound need what came before; only what is wanted is
    resampled.
    """
    number = 0
    counts = iter(index.chunks)
    for _, blocks in groupby(_blocks(file, index.rate_hz, report), key=lambda block: block.start):
        count = next(counts)
        skipped = min(max(0, start - number), count)
        if skipped < count:
            wanted = _dropped((block.samples for block in blocks), first_sample(skipped, index.rate_hz))
            yield from enumerate(chunks_of(wanted, index.rate_hz, skipped), number + skipped)
        number += count


def _dropped(blocks: Iterator[Float64Array], samples: int) -> Iterator[Float64Array]:
    """Blocks without the first samples."""
    for block in blocks:
        if samples < len(block):
            yield block[samples:]
        samples = max(0, samples - len(block))


def _blocks(file: VideoFile, rate_hz: int, report: Report) -> Iterator[_Block]:
    """The track's samples; a new stretch begins after a gap."""
    start, told = None, 0
    for seconds, samples in _decoded(file, rate_hz, report):
        ahead = Fraction(0) if start is None or seconds is None else seconds - start - Fraction(told, rate_hz)
        if start is None or ahead > _TOLERANCE_S:
            start, told, ahead = seconds or Fraction(0), 0, Fraction(0)
        cut = min(len(samples), round(-ahead * rate_hz)) if ahead < -_TOLERANCE_S else 0
        told += len(samples) - cut
        yield _Block(start, samples[cut:], cut)


def _decoded(file: VideoFile, rate_hz: int, report: Report) -> Iterator[tuple[Fraction | None, Float64Array]]:
    with file.opened() as container:
        stream = file.sound_stream(container)
        for packet in file.packets(container, stream, report):
            frames, problem = file.decode(packet)
            for frame in frames:
                if frame.sample_rate != rate_hz:
                    raise RecordingError(f"{file.path}: its sound changes from {rate_hz} to {frame.sample_rate} Hz")
                yield None if frame.pts is None else frame.pts * Fraction(frame.time_base), _mono(frame)
            if problem:
                time = "the end" if packet.pts is None else f"{float(packet.pts * stream.time_base):.3f} s"
                report(f"at {time} of its sound: cannot be decoded ({problem})")


def _mono(frame: Any) -> Float64Array:
    """(n,) in -1..1, the average of the channels; what a decoder gives that is no number is silence."""
    stored = frame.to_ndarray()
    channels = len(frame.layout.channels)
    data = stored if frame.format.is_planar else stored.reshape(-1, channels).T  # (channels, n)
    mono = data.astype(np.float64).mean(axis=0)
    if stored.dtype.kind == "f":
        return np.asarray(np.nan_to_num(mono, nan=0.0, posinf=1.0, neginf=-1.0), np.float64)
    bits = 8 * stored.dtype.itemsize
    middle = 2.0 ** (bits - 1) if stored.dtype.kind == "u" else 0.0
    return np.asarray((mono - middle) / 2.0 ** (bits - 1), np.float64)


def _stored_bytes(file: VideoFile, report: Report) -> int:
    with file.opened() as container:
        return sum(packet.size for packet in file.packets(container, file.sound_stream(container), report))
