"""What a device asks of an inference engine, and how one is found by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ConfigError, ModelError

ENTRY_POINTS = "fusion.engines"
AUTO = "auto"
Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | str, ...]
"""A dimension is a number, or a name (`?` when it has none) where any size is taken."""

_LONGEST_REASON = 240


class Precision(StrEnum):
    """What the engine computes in; `AUTO` leaves it to the engine, which takes the fastest the processor has."""

    AUTO = "auto"
    F32 = "f32"
    BF16 = "bf16"


class Engine(Protocol):
    """A loaded graph. Not thread-safe: one caller at a time."""

    @property
    def name(self) -> str:
        """The backend's name, as in the configuration."""

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """Shape of every input of the graph, by name."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output of the graph, by name, as arrays of the caller's own.

        `inputs` has exactly the graph's inputs, in their shapes and types. Raises `ModelError` otherwise.
        """


class EngineClass(Protocol):
    """What an entry point of the group `fusion.engines` names."""

    def precisions(self) -> tuple[Precision, ...]:
        """What it can compute in on this machine; empty where it cannot run at all."""

    def load(self, path: Path, *, threads: int, precision: Precision, cache: Path | None) -> Engine:
        """Read and compile the graph in `path` for `threads` threads; `cache` is a folder for what was compiled.

        Raises `ModelError`.
        """


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input as the graph declares it."""

    shape: Shape
    dtype: np.dtype[Any]

    def accepts(self, array: Array) -> bool:
        """Whether `array` has this type and shape."""
        if array.dtype != self.dtype or array.ndim != len(self.shape):
            return False
        return all(isinstance(want, str) or want == got for want, got in zip(self.shape, array.shape, strict=True))

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"


def load_engine(
    path: Path, *, backend: str = AUTO, threads: int = 2, precision: str = Precision.AUTO, cache: Path | None = None
) -> Engine:
    """The graph in `path`, ready to run with `threads` threads of the CPU.

    `backend` names an entry point of the group `fusion.engines`; `auto` is OpenVINO where it is installed and
    ONNX Runtime elsewhere, on the CPU. `cache` is a folder in which an engine may keep what it compiled. Raises
    `ConfigError` for an unknown backend or precision and `ModelError`, naming the file, when it is missing, corrupt
    or cannot be compiled.
    """
    if threads < 1:
        raise ConfigError(f"an engine needs at least 1 thread, not {threads}")
    try:
        wanted = Precision(precision)
    except ValueError:
        raise ConfigError(f"engine precision {precision!r} is not known; use {', '.join(Precision)}") from None
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    name = _default_backend() if backend == AUTO else backend
    if name not in found:
        raise ConfigError(f"no engine is called {name!r}; use {', '.join([AUTO, *sorted(found)])}")
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; install the bundle again or point the configuration at it")
    if cache:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"engine.cache {cache}: cannot be made ({error.strerror}); name another folder") from None
    return _class_of(found[name]).load(path, threads=threads, precision=wanted, cache=cache)


def engines_here() -> dict[str, tuple[Precision, ...]]:
    """The engines that can run on this machine, by name, and what each computes in. Raises `ModelError`."""
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    found = {point.name: _class_of(point).precisions() for point in points}
    return {name: precisions for name, precisions in found.items() if precisions}


def check_inputs(path: Path, declared: Mapping[str, Tensor], given: Mapping[str, Array]) -> None:
    """Raise `ModelError` unless `given` has exactly the declared inputs."""
    if set(given) != set(declared):
        raise ModelError(f"{path}: takes inputs {', '.join(sorted(declared))}; was given {', '.join(sorted(given))}")
    for name, tensor in declared.items():
        array = given[name]
        if not tensor.accepts(array):
            raise ModelError(f"{path}: input {name} is {tensor}; was given {array.dtype} {array.shape}")


def reason(error: Exception) -> str:
    """What a foreign error says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _default_backend() -> str:
    return "openvino" if find_spec("openvino") else "onnxruntime"


def _class_of(point: EntryPoint) -> EngineClass:
    try:
        loaded: EngineClass = point.load()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"engine {point.name!r} ({point.value}) cannot be imported: {error}") from None
    return loaded
