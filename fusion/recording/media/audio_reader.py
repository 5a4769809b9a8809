"""A sound file as a recording: one microphone, in chunks of 100 ms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from fusion.recording.base import EMPTY, RecordingInfo, SensorInfo
from fusion.recording.content import check_request, content_of
from fusion.recording.media.audio_file import AudioFile, SoundForm
from fusion.recording.media.sound_chunks import CHUNK_NS, RATE_HZ, chunk_count, chunks_of, first_sample
from fusion.recording.sensor_name import sensor_name
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.task import Task
from fusion.types import AudioChunk, Modality, Reading, Truth

SUFFIXES = (".wav", ".flac", ".ogg")


class AudioReader:
    """Reads a `.wav`, `.flac` or `.ogg` file as `AudioChunk`s of 1600 samples at 16 kHz, the last one shorter.

    The sensor is the task's only speech sensor, else `microphone`. Chunk i (from 0) is at i * 100 ms from the file's
    first sample; a cursor is a chunk's number, from 1. Channels are averaged, other rates resampled (see
    `sound_chunks`), louder samples than full scale clipped; 16-bit mono sound at 16 kHz stays as it is.
    """

    def __init__(self, path: Path, sensor: str, *, salvage: bool) -> None:
        self._path, self._sensor = path, sensor
        self._file = AudioFile(path, salvage=salvage)

    @staticmethod
    def can_read(path: Path) -> bool:
        """A file with one of the suffixes."""
        return path.suffix.lower() in SUFFIXES and path.is_file()

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open `path`; raises `RecordingError` when it ends too early, and for what is no sound."""
        sensor = sensor_name(task, Modality.SPEECH)
        check_request(path, "a sound file", {sensor}, task, split)
        return cls(path, sensor, salvage=salvage)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def info(self) -> RecordingInfo:
        """What the file holds; it is decoded once to count its samples."""
        digest, size = content_of(self._path, [self._path])
        form, samples = self._file.form, self._file.samples
        times = [chunk * CHUNK_NS for chunk in range(chunk_count(samples, form.rate_hz))]
        return RecordingInfo(
            path=self._path,
            format="audio",
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors={self._sensor: SensorInfo.of_times(Modality.SPEECH, form.encoding, times)},
            rig=None,
            truths=0,
            notes={
                "clock": "0 is the first sample",
                f"sound of {self._sensor}": describe(form.encoding, form.rate_hz, form.channels),
                "samples": f"{samples} at {form.rate_hz} Hz ({samples / form.rate_hz:.6g} s)",
            },
            damage=self._file.damage,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the file, all of which is decoded."""
        _ = self._file.samples
        return {self._sensor: self._path.stat().st_size}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """The chunks; the file is decoded from the first one that is wanted."""
        return self.between(ALWAYS, start_cursor)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; the file is decoded from the first one on."""
        form: SoundForm = self._file.form
        start = max(0, start_cursor, -(-(times.low_ns or 0) // CHUNK_NS))
        if empty:
            for chunk in range(start, chunk_count(self._file.samples, form.rate_hz)):
                if times.covers(chunk * CHUNK_NS):
                    yield chunk + 1, Reading(self._sensor, Modality.SPEECH, chunk * CHUNK_NS, EMPTY[Modality.SPEECH])
            return
        first = first_sample(start, form.rate_hz)
        if form.samples is not None and first >= form.samples:
            return
        for chunk, pcm in enumerate(chunks_of(self._file.blocks(first), form.rate_hz, start), start):
            if not times.covers(chunk * CHUNK_NS):
                return
            yield chunk + 1, Reading(self._sensor, Modality.SPEECH, chunk * CHUNK_NS, AudioChunk(pcm, RATE_HZ))

    def truth(self) -> Iterator[Truth]:
        """Nothing: the file carries no truth."""
        return iter(())

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Nothing."""
        del times
        return iter(())


def describe(encoding: str, rate_hz: int, channels: int) -> str:
    """How sound is stored and what is done to it, in a few words."""
    done = [f"{channels} channels averaged"] if channels > 1 else []
    done += [f"resampled from {rate_hz} Hz"] if rate_hz != RATE_HZ else []
    return ", ".join([encoding, *done])
