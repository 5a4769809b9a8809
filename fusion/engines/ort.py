"""ONNX Runtime: CUDA where its build has it, else the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from fusion.engines.base import Array, Precision, Shape, Tensor, check_inputs, reason
from fusion.errors import ModelError

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeEngine:
    """A graph in ONNX Runtime; `load` makes one."""

    name = "onnxruntime"

    def __init__(self, path: Path, session: Any) -> None:
        self._path = path
        self._session = session
        self._declared = {i.name: _tensor(path, i) for i in session.get_inputs()}
        self._outputs = [output.name for output in session.get_outputs()]

    @classmethod
    def load(cls, path: Path, *, threads: int, precision: Precision) -> Self:
        """Read `path` and plan it for `threads` threads. Raises `ModelError`."""
        if precision is Precision.BF16:
            raise ModelError(f"{path}: onnxruntime does not compute in bf16 on a CPU; use f32, or the openvino engine")
        try:
            import onnxruntime as ort
        except ImportError:
            raise ModelError(f"{path}: onnxruntime is not installed; install fusion-stack[edge]") from None
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # A device runs several graphs in turn: workers that spin after one steal the cores from the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = ort.get_available_providers()
        try:
            session = ort.InferenceSession(
                str(path), options, providers=[name for name in _PROVIDERS if name in available]
            )
        except Exception as error:  # noqa: BLE001 its errors have no root of their own
            raise ModelError(f"{path}: onnxruntime cannot load it ({reason(error)})") from None
        return cls(path, session)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """Shape of every input of the graph, by name."""
        return {name: tensor.shape for name, tensor in self._declared.items()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name; see `Engine.run`."""
        check_inputs(self._path, self._declared, inputs)
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # noqa: BLE001 its errors have no root of their own
            raise ModelError(f"{self._path}: onnxruntime failed ({reason(error)})") from None
        return dict(zip(self._outputs, values, strict=True))


def _tensor(path: Path, declared: Any) -> Tensor:
    if declared.type not in _DTYPES:
        raise ModelError(f"{path}: input {declared.name} is a {declared.type}; that type is not supported")
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in declared.shape)
    return Tensor(shape, np.dtype(_DTYPES[declared.type]))
