"""A codec profile: everything that fixes the shape and the tables of evidence, under one fingerprint."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from fusion.codec.entropy import Frequencies, SymbolModel, check_frequencies, symbol_models
from fusion.codec.steps import MAX_STEP_EXPONENT, coarser_frequencies, coarser_symbols
from fusion.errors import ModelError
from fusion.json_text import parse_json
from fusion.types import Float32Array

FORMAT = 1
"""Version of gate, symbol order and entropy coder; part of every fingerprint."""
JSON_NAME = "profile.json"
ARRAYS_NAME = "profile.npz"
_MAX_ARRAY_BYTES = 16 << 20
_LONGEST_REASON = 200
MAX_SIDE = 8192
"""Pixels along a side of the model's input."""


@dataclass(frozen=True, eq=False)
class LevelCoder:
    """Symbols from -largest to largest, and one entropy model a channel for them."""

    largest: int
    models: tuple[SymbolModel, ...]


@dataclass(frozen=True, eq=False)
class Level:
    """One neck map: `channels` codes a cell of `stride` x `stride` pixels.

    A code is an integer in -clip..clip and stands for `code * step[channel]`; `step` (K,) float32.
    `frequencies` (K, 2*clip+1) int32 are the channel's symbol counts, each >= 1.
    """

    stride: int
    channels: int
    step: Float32Array
    clip: int
    frequencies: Frequencies

    def __post_init__(self) -> None:
        if self.stride not in (1, 2, 4, 8, 16, 32, 64, 128) or not 1 <= self.clip <= 127:
            raise ModelError(
                f"a level of stride {self.stride} and clip {self.clip}; powers of 2 and 1..127 are allowed"
            )
        if self.step.shape != (self.channels,) or self.frequencies.shape != (self.channels, 2 * self.clip + 1):
            raise ModelError(
                f"level of stride {self.stride}: {self.channels} channels, but steps {self.step.shape} "
                f"and frequencies {self.frequencies.shape}"
            )
        if self.channels < 1 or not (np.isfinite(self.step).all() and (self.step > 0).all()):
            raise ModelError(f"level of stride {self.stride}: every channel needs a finite step above 0")
        check_frequencies(self.frequencies)

    @cached_property
    def coders(self) -> tuple[LevelCoder, ...]:
        """One coder a step exponent, from 0 to the largest that leaves more than one symbol; built once."""
        coders = []
        for exponent in range(MAX_STEP_EXPONENT + 1):
            largest = int(coarser_symbols(np.array([self.clip]), exponent)[0])
            if largest < 1:
                break
            coders.append(LevelCoder(largest, symbol_models(coarser_frequencies(self.frequencies, exponent))))
        return tuple(coders)

    def __getstate__(self) -> dict[str, Any]:
        """Coders are no data: whoever unpickles the level builds them again."""
        return {name: value for name, value in self.__dict__.items() if name != "coders"}

    @property
    def name(self) -> str:
        """The graph output this level comes out of: `p3` for stride 8, `p4` for 16."""
        return f"p{self.stride.bit_length() - 1}"


@dataclass(frozen=True, eq=False)
class Profile:
    """The trunk's fingerprint and what it fixes; `levels` finest first, image size in pixels of the model's input.

    `trunk_sha256` stands for the frozen graph. Make one with `create` or `load`, which see to the fingerprint.
    """

    sha256: str
    task: str
    image_width: int
    image_height: int
    levels: tuple[Level, ...]
    trunk_sha256: str

    def __post_init__(self) -> None:
        coarsest = max((level.stride for level in self.levels), default=0)
        sizes = (self.image_width, self.image_height)
        if not coarsest or any(not 0 < size <= MAX_SIDE or size % coarsest for size in sizes):
            raise ModelError(
                f"profile of {self.task}: an image of {self.image_width}x{self.image_height} "
                f"does not divide into {len(self.levels)} levels"
            )

    @classmethod
    def create(
        cls, *, task: str, image_width: int, image_height: int, levels: tuple[Level, ...], trunk_sha256: str
    ) -> Self:
        """A profile with its fingerprint computed."""
        draft = cls("", task, image_width, image_height, levels, trunk_sha256)
        return cls(draft.fingerprint(), task, image_width, image_height, levels, trunk_sha256)

    def fingerprint(self) -> str:
        """Hex sha-256 over the header, every step (little-endian float32) and every table (little-endian int32)."""
        digest = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        for level in self.levels:
            digest.update(np.ascontiguousarray(level.step, "<f4").tobytes())
            digest.update(np.ascontiguousarray(level.frequencies, "<i4").tobytes())
        return digest.hexdigest()

    @property
    def max_step_exponent(self) -> int:
        """The coarsest steps in which every level still has more than one symbol."""
        return min(len(level.coders) for level in self.levels) - 1

    def map_size(self, index: int) -> tuple[int, int]:
        """Height and width, in cells, of a level's whole map."""
        stride = self.levels[index].stride
        return self.image_height // stride, self.image_width // stride

    def save(self, folder: Path) -> None:
        """Write `profile.json` and `profile.npz`; the same profile gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"sha256": self.sha256, **self._header()}, indent=1)
        (folder / JSON_NAME).write_text(text + "\n", encoding="utf-8")
        arrays = {}
        for index, level in enumerate(self.levels):
            arrays[f"step{index}"] = level.step.astype("<f4")
            arrays[f"frequencies{index}"] = level.frequencies.astype("<i4")
        np.savez_compressed(folder / ARRAYS_NAME, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved profile. Raises `ModelError` when it is missing, damaged or not what its fingerprint says."""
        header, arrays = _read_header(folder / JSON_NAME), _read_arrays(folder / ARRAYS_NAME)
        try:
            if header["format"] != FORMAT:
                raise ModelError(f"{folder / JSON_NAME}: format {header['format']}; this program reads format {FORMAT}")
            levels = tuple(
                Level(
                    int(entry["stride"]),
                    int(entry["channels"]),
                    arrays[f"step{i}"].astype(np.float32),
                    int(entry["clip"]),
                    arrays[f"frequencies{i}"].astype(np.int32),
                )
                for i, entry in enumerate(header["levels"])
            )
            width, height = int(header["image_width"]), int(header["image_height"])
            profile = cls(
                str(header["sha256"]), str(header["task"]), width, height, levels, str(header["trunk_sha256"])
            )
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{folder / JSON_NAME}: not a codec profile ({error!r})") from None
        if profile.fingerprint() != profile.sha256:
            raise ModelError(f"{folder}: the codec profile does not match its sha256; restore or export it again")
        return profile

    def check_trunk(self, graph: Path) -> None:
        """Raise `ModelError` unless `graph` is the very file this profile was made for."""
        try:
            found = hashlib.sha256(graph.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(f"{graph}: {error.strerror}; the bundle of task {self.task} is incomplete") from None
        if found != self.trunk_sha256:
            raise ModelError(
                f"{graph}: not the trunk of profile {self.sha256[:12]}; restore or export the bundle again"
            )

    def _header(self) -> dict[str, Any]:
        levels = [{"stride": v.stride, "channels": v.channels, "clip": v.clip} for v in self.levels]
        return {
            "format": FORMAT,
            "task": self.task,
            "image_width": self.image_width,
            "image_height": self.image_height,
            "levels": levels,
            "trunk_sha256": self.trunk_sha256,
        }


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; a model folder holds {JSON_NAME} and {ARRAYS_NAME}") from None
    except ValueError as error:
        raise ModelError(f"{path}: not a codec profile ({error})") from None
    if not isinstance(header, dict):
        raise ModelError(f"{path}: not a codec profile (no JSON object)")
    return header


def _read_arrays(path: Path) -> dict[str, Any]:
    with _translated(path), zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _MAX_ARRAY_BYTES:
        raise ModelError(f"{path}: its arrays unpack to more than {_MAX_ARRAY_BYTES >> 20} MiB")
    with _translated(path), np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if strange := [name for name, value in found.items() if not isinstance(value, np.ndarray)]:
        raise ModelError(f"{path}: damaged ({strange[0]!r} is no array); restore or export the profile again")
    return found


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Any error of reading the archive `path` as a `ModelError`: archive, compression and array headers each fail in
    ways of their own.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 see above
        if isinstance(error, OSError) and error.strerror:
            raise ModelError(f"{path}: {error.strerror}; a model folder holds {JSON_NAME} and {ARRAYS_NAME}") from None
        told = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        raise ModelError(f"{path}: damaged ({told}); restore or export the profile again") from None
