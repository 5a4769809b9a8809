"""What was said in a recording: words and intent from its truth, sound from its microphone."""

from __future__ import annotations

import io
import wave
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
PLAYED_HZ = 8000


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something said; in effect from `start_ns`, when it had been said, to `end_ns`. `wav` is mono PCM, or empty."""

    start_ns: int
    end_ns: int
    transcript: str
    intent: str
    wav: bytes = b""


def utterances(reader: RecordingReader, task: Task) -> tuple[Utterance, ...]:
    """Every utterance the recording's truth tells of, in order; sound for as many as fit `MAX_AUDIO_BYTES`."""
    spoken = list(spans(reader.truth()))
    microphone = next(iter(task.of_modality(Modality.SPEECH)), None)
    if not spoken or microphone is None:
        return tuple(spoken)
    return _with_sound(spoken, reader, microphone)


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


def _with_sound(spoken: Sequence[Utterance], reader: RecordingReader, microphone: str) -> tuple[Utterance, ...]:
    """One pass over the recording; the chunks around each utterance's end are kept, the others let go."""
    kept: list[list[AudioChunk]] = [[] for _ in spoken]
    for _, reading in reader.readings():
        if reading.sensor != microphone or not isinstance(reading.payload, AudioChunk):
            continue
        for index, utterance in enumerate(spoken):
            if -BEFORE_NS <= reading.capture_time_ns - utterance.start_ns < AFTER_NS:
                kept[index].append(reading.payload)
    room, heard = MAX_AUDIO_BYTES, []
    for utterance, chunks in zip(spoken, kept, strict=True):
        wav = _wav(chunks) if chunks else b""
        room -= len(wav)
        heard.append(replace(utterance, wav=wav if room >= 0 else b""))
    return tuple(heard)


def _wav(chunks: Sequence[AudioChunk]) -> bytes:
    rate = chunks[0].sample_rate_hz
    step = max(1, rate // PLAYED_HZ)
    pcm = _thinned(np.concatenate([chunk.pcm for chunk in chunks]), step)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate // step)
        out.writeframes(pcm.astype("<i2").tobytes())
    return file.getvalue()


def _thinned(pcm: Int16Array, step: int) -> Int16Array:
    """Every `step` samples averaged into one: a coarse low-pass, good enough to recognise a sentence by."""
    whole = pcm[: len(pcm) // step * step].reshape(-1, step)
    return np.asarray(whole.mean(axis=1).round(), np.int16)
