"""One sound file as mono samples, a block at a time, and whether all that it promises is there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.recording.media import ogg
from fusion.recording.media.container_end import missing_bytes
from fusion.recording.media.sound_chunks import check_rate
from fusion.recording.native.stream import opened
from fusion.recording.optional import optional_module
from fusion.types import Float64Array

_BLOCK = 4_096
_UNKNOWN_LENGTH = 1 << 48
"""libsndfile's answer is larger than this when a header leaves the length open."""


@dataclass(frozen=True, slots=True)
class SoundForm:
    """How the sound is stored; `samples` (of each channel) as the header has it, None where it does not say."""

    rate_hz: int
    channels: int
    encoding: str
    samples: int | None


class AudioFile:
    """A WAV, FLAC or Ogg file, read through libsndfile.

    Raises `RecordingError` at once for a file that ends before its header says; one that cannot be decoded does so
    where it is read. With `salvage` the samples before the damage are all there is, and `damage` says so.
    """

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self._path, self._salvage = path, salvage
        self._soundfile = optional_module("soundfile", path)
        self._sound_bytes: int | None = None
        self._cut = self._shortfall()
        if self._cut and not salvage:
            raise RecordingError(f"{path}: {self._cut}; salvaging reads the sound before that")
        with opened(path), self._open() as file:
            known = file.frames if 0 < file.frames < _UNKNOWN_LENGTH else None
            self.form = SoundForm(file.samplerate, file.channels, f"{file.format} {file.subtype}", known)
        try:
            check_rate(self.form.rate_hz)
        except InputError as error:
            raise RecordingError(f"{path}: {error}") from None

    @cached_property
    def samples(self) -> int:
        """Sound samples of each channel; the whole file is decoded."""
        return self._survey[0]

    @cached_property
    def damage(self) -> str:
        """What is wrong with the file; empty when it is whole. The whole file is decoded."""
        return self._survey[1]

    def blocks(self, start: int = 0) -> Iterator[Float64Array]:
        """Mono samples (n,) in -1..1 from the sample `start` on; channels are averaged. Raises `RecordingError`."""
        for block, problem in self._checked(start):
            if problem and not self._salvage:
                raise RecordingError(f"{self._path}: {problem}; salvaging reads the sound before that")
            yield block

    @cached_property
    def _survey(self) -> tuple[int, str]:
        samples, damage = 0, self._cut
        for block, problem in self._checked(0):
            if problem and not self._salvage:
                raise RecordingError(f"{self._path}: {problem}; salvaging reads the sound before that")
            samples, damage = samples + len(block), damage or problem
        return samples, damage

    def _checked(self, start: int) -> Iterator[tuple[Float64Array, str]]:
        """Blocks, the last one with what is wrong after it."""
        at = start
        with self._open() as file:
            try:
                _skip(file, start)
                while len(data := file.read(_BLOCK, "float64", always_2d=True)):
                    finite = np.isfinite(data).all(axis=1)
                    sound = data if finite.all() else data[: int(np.argmin(finite))]
                    at += len(sound)
                    yield sound.mean(axis=1), "" if len(sound) == len(data) else f"sample {at} is not a finite number"
                    if len(sound) < len(data):
                        return
            except (self._soundfile.SoundFileError, OSError) as error:
                yield np.zeros(0), f"cannot be decoded from sample {at} on ({_one_line(error)})"
                return
        promised = self.form.samples
        if promised is not None and at < promised and not self._cut:
            yield np.zeros(0), f"the header promises {promised} samples, {at} are there"

    def _open(self) -> Any:
        try:
            if self._sound_bytes is None:
                return self._soundfile.SoundFile(str(self._path))
            with opened(self._path) as file:
                return self._soundfile.SoundFile(io.BytesIO(file.read(self._sound_bytes)))
        except (self._soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
            raise RecordingError(f"{self._path}: no sound that can be read ({_one_line(error)})") from None

    def _shortfall(self) -> str:
        """What the file lacks by its container's own account."""
        if missing := missing_bytes(self._path):
            return f"it ends {missing} bytes before the end that its header promises"
        with opened(self._path) as file:
            is_ogg = file.read(4) == ogg.MAGIC
        if not is_ogg or (offset := ogg.damaged_at(self._path)) is None:
            return ""
        self._sound_bytes = offset
        return f"byte {offset}: a page of the stream is damaged or missing"


def _skip(file: Any, samples: int) -> None:
    """Go to a sample. libsndfile lands beside it in Ogg streams, so those are decoded up to there."""
    if file.format != "OGG":
        file.seek(samples)
        return
    while samples > 0 and (count := len(file.read(min(samples, _BLOCK), "float32", always_2d=True))):
        samples -= count


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[-120:]
