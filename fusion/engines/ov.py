"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from fusion.engines.base import Array, Precision, Shape, Tensor, check_inputs, reason
from fusion.errors import ModelError


class OpenVinoEngine:
    """A graph in OpenVINO; `load` makes one."""

    name = "openvino"

    def __init__(self, path: Path, model: Any, compiled: Any) -> None:
        self._path = path
        self._declared = {port.any_name: _tensor(port) for port in model.inputs}
        self._outputs = [port.any_name for port in model.outputs]
        self._request = compiled.create_infer_request()

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """f32, and bf16 where the processor computes in it."""
        try:
            ov = library()
        except ImportError:
            return ()
        found = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return (Precision.F32, Precision.BF16) if "BF16" in found else (Precision.F32,)

    @classmethod
    def load(cls, path: Path, *, threads: int, precision: Precision, cache: Path | None = None) -> Self:
        """Read `path` (ONNX or OpenVINO IR) and compile it for `threads` threads. Raises `ModelError`.

        `cache` keeps what is compiled, so that the next start is faster.
        """
        try:
            ov = library()
        except ImportError:
            raise ModelError(f"{path}: openvino is not installed; install fusion-stack[edge]") from None
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # Every engine would pin its threads to the same first cores, and two engines at work at once share them.
            "ENABLE_CPU_PINNING": False,
        }
        if precision is not Precision.AUTO:
            options["INFERENCE_PRECISION_HINT"] = precision.value
        if cache:
            options["CACHE_DIR"] = str(cache)
        try:
            core = ov.Core()
            model = _read(core, path)
            compiled = core.compile_model(model, "CPU", options)
        except Exception as error:  # noqa: BLE001 its errors have no root of their own
            raise ModelError(f"{path}: openvino cannot load it ({reason(error)})") from None
        if not compiled.outputs:
            raise ModelError(f"{path}: openvino cannot load it (the graph has no output)")
        return cls(path, model, compiled)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """Shape of every input of the graph, by name."""
        return {name: tensor.shape for name, tensor in self._declared.items()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name; see `Engine.run`."""
        check_inputs(self._path, self._declared, inputs)
        try:
            ready = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            self._request.infer(ready, share_inputs=True)
            values = [self._request.get_output_tensor(i).data.copy() for i in range(len(self._outputs))]
        except Exception as error:  # noqa: BLE001 its errors have no root of their own
            raise ModelError(f"{self._path}: openvino failed ({reason(error)})") from None
        return dict(zip(self._outputs, values, strict=True))


def library() -> Any:
    """OpenVINO without its telemetry, which tells Google Analytics of each import, from a fork of this very process.

    Raises `ImportError` where it is not installed.
    """
    silenced: dict[str, Any] = sys.modules
    silenced.setdefault("openvino_telemetry", None)  # as if it were not installed, which OpenVINO can do with
    import openvino

    return openvino


def _read(core: Any, path: Path) -> Any:
    """The model; an ONNX file goes straight to its front end, since trying all of them prints each one's complaint."""
    if path.suffix != ".onnx":
        return core.read_model(str(path))
    from openvino.frontend import FrontEndManager

    front_end = FrontEndManager().load_by_framework("onnx")
    return front_end.convert(front_end.load(str(path)))


def _tensor(port: Any) -> Tensor:
    sizes = [str(size) for size in port.partial_shape]
    shape = tuple(int(size) if size.isdecimal() else "?" for size in sizes)
    return Tensor(shape, np.dtype(port.get_element_type().to_dtype()))
