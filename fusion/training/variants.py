"""What every variant of a model in fewer bits shares: which engines can run it, how fast, and that it is whole or not
there at all.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fusion.engines import Array, Engine
from fusion.engines.ov import library
from fusion.errors import ConfigError, InputError, ModelError

INT8, BF16 = "int8", "bf16"
_LATENCY_ROUNDS = 60


def check_max_loss(share: float) -> None:
    """Raise `ConfigError` when what a variant may lose is no share in 0..1."""
    if not 0 <= share < 1:
        raise ConfigError(f"--max-loss {share}: give a share in 0..1")


def refuse_existing(out: Path) -> None:
    """Raise `InputError` when `out` is there already."""
    if out.exists():
        raise InputError(f"{out}: is there already; give a folder that is not")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder to write to that becomes `out` at the end, and is gone if anything goes wrong. Raises `InputError` when
    `out` is there already.
    """
    refuse_existing(out)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def able_backends(precision: str) -> list[str]:
    """The installed engines that compute in `precision` on this processor. Raises `ModelError` when there is none."""
    installed = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
    if precision == INT8:
        return installed
    if "openvino" not in installed or not openvino_has_bf16():
        raise ModelError(
            "no engine computes in bf16 on this processor: OpenVINO does with AVX512-BF16 or AMX, ONNX Runtime not at "
            "all on a CPU; weights are stored in 16 bits already"
        )
    return ["openvino"]


def openvino_has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor, rather than saying so and using float32."""
    return "BF16" in library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def paired_latency(whole: Engine, less: Engine, inputs: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Median milliseconds of two engines that take turns; `ratio` is the median over rounds of `less` by `whole`."""
    times = np.zeros((_LATENCY_ROUNDS, 2))
    for index in range(_LATENCY_ROUNDS):
        order = (0, 1) if index % 2 else (1, 0)
        for column in order:
            started = time.perf_counter_ns()
            (whole, less)[column].run(inputs[index % len(inputs)])
            times[index, column] = (time.perf_counter_ns() - started) / 1e6
    median = np.median(times, axis=0)
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    return {"float32": float(median[0]), "variant": float(median[1]), "ratio": ratio}
