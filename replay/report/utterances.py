"""What was said in a recording: words and intent from its truth, sound from its microphone."""

from __future__ import annotations

import io
import wave
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fusion.recording.base import RecordingReader
from fusion.task import Task
from fusion.types import AudioChunk, Int16Array, Modality, Truth

BEFORE_NS = 2_600_000_000
AFTER_NS = 300_000_000
"""Truth names an utterance from its end on; sound from this long before that moment to this long after is kept."""
MAX_AUDIO_BYTES = 700_000
"""Of a page, whatever number of recordings it shows."""
PLAYED_HZ = 8000
_WAV_HEADER_BYTES = 44


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something said; in effect from `start_ns`, when it had been said, to `end_ns`. `wav` is mono PCM, or empty."""

    start_ns: int
    end_ns: int
    transcript: str
    intent: str
    wav: bytes = b""


def utterances(reader: RecordingReader, task: Task, room: int | None = None) -> tuple[Utterance, ...]:
    """Every utterance the recording's truth tells of, in order; sound for the first that fit `room` bytes.

    `room` is `MAX_AUDIO_BYTES` unless it is given.
    """
    spoken = list(spans(reader.truth()))
    microphone = next(iter(task.of_modality(Modality.SPEECH)), None)
    room = MAX_AUDIO_BYTES if room is None else room
    if not spoken or microphone is None or room <= 0:
        return tuple(spoken)
    return _with_sound(spoken, reader, microphone, room)


def spans(truths: Iterator[Truth]) -> Iterator[Utterance]:
    """Runs of truth with the same words."""
    current: Utterance | None = None
    for truth in truths:
        if current and truth.transcript == current.transcript:
            current = replace(current, end_ns=truth.time_ns)
            continue
        if current:
            yield current
        current = None
        if truth.transcript:
            current = Utterance(truth.time_ns, truth.time_ns, truth.transcript, truth.intent or "")
    if current:
        yield current


def _with_sound(
    spoken: Sequence[Utterance], reader: RecordingReader, microphone: str, room: int
) -> tuple[Utterance, ...]:
    """One pass over the recording; the chunks around each utterance's end are kept, the others let go."""
    kept = _Kept([utterance.start_ns for utterance in spoken], room)
    for _, reading in reader.readings():
        if reading.sensor == microphone and isinstance(reading.payload, AudioChunk):
            kept.add(reading.capture_time_ns, reading.payload)
            if not kept.fitting:
                break
    wavs = (_wav(chunks) if chunks else b"" for chunks in kept.chunks)
    return tuple(replace(utterance, wav=wav) for utterance, wav in zip(spoken, wavs, strict=True))


class _Kept:
    """Chunks by utterance, of the first `fitting` utterances: those whose sound together may yet fit `room` bytes."""

    def __init__(self, starts_ns: Sequence[int], room: int) -> None:
        self.chunks: list[list[AudioChunk]] = [[] for _ in starts_ns]
        self.fitting = len(starts_ns)
        self._in_time = sorted((start, index) for index, start in enumerate(starts_ns))
        self._bytes, self._samples, self._room = [0] * len(starts_ns), [0] * len(starts_ns), room

    def add(self, time_ns: int, chunk: AudioChunk) -> None:
        """Keep a chunk for each utterance it is of; what does not fit any more is let go, from the last one on."""
        first = bisect_right(self._in_time, (time_ns - AFTER_NS, len(self.chunks)))
        end = bisect_right(self._in_time, (time_ns + BEFORE_NS, len(self.chunks)))
        for _, index in self._in_time[first:end]:
            if index < self.fitting:
                self._keep(index, chunk)

    def _keep(self, index: int, chunk: AudioChunk) -> None:
        self.chunks[index].append(chunk)
        self._samples[index] += len(chunk.pcm)
        size = _WAV_HEADER_BYTES + 2 * (self._samples[index] // _step(self.chunks[index][0]))
        self._room -= size - self._bytes[index]
        self._bytes[index] = size
        while self._room < 0:
            self.fitting -= 1
            self._room += self._bytes[self.fitting]
            self.chunks[self.fitting].clear()


def _wav(chunks: Sequence[AudioChunk]) -> bytes:
    rate = chunks[0].sample_rate_hz
    step = _step(chunks[0])
    pcm = _thinned(np.concatenate([chunk.pcm for chunk in chunks]), step)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate // step)
        out.writeframes(pcm.astype("<i2").tobytes())
    return file.getvalue()


def _step(chunk: AudioChunk) -> int:
    return max(1, chunk.sample_rate_hz // PLAYED_HZ)


def _thinned(pcm: Int16Array, step: int) -> Int16Array:
    """Every `step` samples averaged into one: a coarse low-pass, good enough to recognise a sentence by."""
    whole = pcm[: len(pcm) // step * step].reshape(-1, step)
    return np.asarray(whole.mean(axis=1).round(), np.int16)
