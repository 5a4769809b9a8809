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
from fusion.recording.media.wav import Unclosed, unclosed
from fusion.recording.native.stream import opened
from fusion.recording.optional import optional_module
from fusion.types import Float64Array

_BLOCK = 4_096
_SEEKABLE = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Subtypes in which a sample does not depend on those before it, as libsndfile decodes them."""
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

    Raises `RecordingError` at once for a file that ends before its header says, for a WAV file with more sound than
    that, and for one without any sound; one that cannot be decoded does so where it is read. With `salvage` the
    samples before the damage are all there is (of a WAV file that was not closed: all of them), and `damage` says so.
    """

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self._path, self._salvage = path, salvage
        self._soundfile = optional_module("soundfile", path)
        self._sound_bytes: int | None = None
        self._unclosed: Unclosed | None = None
        self._cut = self._shortfall()
        if self._cut and not salvage:
            there = "all of it" if self._unclosed else "the sound before that"
            raise RecordingError(f"{path}: {self._cut}; salvaging reads {there}")
        with opened(path), self._open() as file:
            known = file.frames if 0 < file.frames < _UNKNOWN_LENGTH else None
            self.form = SoundForm(file.samplerate, file.channels, f"{file.format} {file.subtype}", known)
        try:
            check_rate(self.form.rate_hz)
        except InputError as error:
            raise RecordingError(f"{path}: {error}") from None
        if self._is_empty():
            raise RecordingError(f"{path}: no sound in it{': ' if self._cut else ''}{self._cut}")

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
        """Blocks, the last one with what is wrong after it.

        Where samples hang on those before them, equal blocks are decoded from the first sample on: the last bits of
        what decoders give depend on how they are asked.
        """
        at = 0
        with self._open() as file:
            try:
                if file.subtype.startswith(_SEEKABLE) and file.format != "OGG":
                    at = file.seek(start)
                while len(data := file.read(_BLOCK, "float64", always_2d=True)):
                    finite = np.isfinite(data).all(axis=1)
                    sound = data if finite.all() else data[: int(np.argmin(finite))]
                    wanted, at = sound[max(0, start - at) :], at + len(sound)
                    yield wanted.mean(axis=1), "" if len(sound) == len(data) else f"sample {at} is not a finite number"
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
            if self._sound_bytes is None and self._unclosed is None:
                return self._soundfile.SoundFile(str(self._path))
            with opened(self._path) as file:
                content = bytearray(file.read(-1 if self._sound_bytes is None else self._sound_bytes))
            if found := self._unclosed:
                content[found.field_offset : found.field_offset + len(found.field)] = found.field
            return self._soundfile.SoundFile(io.BytesIO(content))
        except (self._soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
            raise RecordingError(f"{self._path}: no sound that can be read ({_one_line(error)})") from None

    def _is_empty(self) -> bool:
        """Whether not one sample is stored; what cannot be decoded is told where it is read."""
        try:
            with self._open() as file:
                return not len(file.read(1))
        except (self._soundfile.SoundFileError, OSError):
            return False

    def _shortfall(self) -> str:
        """What is wrong with the file's length by its container's own account."""
        if missing := missing_bytes(self._path):
            return f"it ends {missing} bytes before the end that its header promises"
        if found := unclosed(self._path):
            self._unclosed = found
            return (
                f"its writer did not close it: the header tells of {found.told} bytes of sound, {found.there} are there"
            )
        with opened(self._path) as file:
            is_ogg = file.read(4) == ogg.MAGIC
        if not is_ogg or (offset := ogg.damaged_at(self._path)) is None:
            return ""
        self._sound_bytes = offset
        return f"byte {offset}: a page of the stream is damaged or missing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[-120:]
