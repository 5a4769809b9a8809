"""ONNX Runtime, by the execution provider asked for: the CPU, CUDA or TensorRT, and never another one instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fusion.engines.base import Array, Precision, Shape, Tensor, check_inputs, reason
from fusion.errors import ModelError

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
Provider = tuple[str, dict[str, str]]
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
    """A graph in ONNX Runtime on the CPU; `load` makes one."""

    name: ClassVar[str] = "onnxruntime"
    provider: ClassVar[str] = _CPU

    def __init__(self, path: Path, session: Any) -> None:
        self._path = path
        self._session = session
        self._declared = {i.name: _tensor(path, i) for i in session.get_inputs()}
        self._outputs = [output.name for output in session.get_outputs()]

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """f32 where the installed build has the provider, else nothing."""
        try:
            import onnxruntime as ort
        except ImportError:
            return ()
        return (Precision.F32,) if cls.provider in ort.get_available_providers() else ()

    @classmethod
    def load(cls, path: Path, *, threads: int, precision: Precision, cache: Path | None = None) -> Self:
        """Read `path` and plan it for `threads` threads; `cache` keeps what is compiled. Raises `ModelError`."""
        if precision is Precision.BF16:
            raise ModelError(f"{path}: {cls.name} does not compute in bf16; use f32, or the openvino engine")
        try:
            import onnxruntime as ort
        except ImportError:
            raise ModelError(f"{path}: onnxruntime is not installed; install fusion-stack[edge]") from None
        if cls.provider not in ort.get_available_providers():
            raise ModelError(
                f"{path}: this onnxruntime has no {cls.provider}; install the build that has, or use another backend"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # A device runs several graphs in turn: workers that spin after one steal the cores from the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(str(path), options, providers=cls._providers(cache))
        except Exception as error:  # noqa: BLE001 its errors have no root of their own
            raise ModelError(f"{path}: {cls.name} cannot load it ({reason(error)})") from None
        refuse_fallback(path, cls.provider, session)
        return cls(path, session)

    @classmethod
    def _providers(cls, cache: Path | None) -> list[Provider]:
        """The provider with its options, then those that may take single nodes it does not have."""
        del cache
        return [(_CPU, {})]

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
            raise ModelError(f"{self._path}: {self.name} failed ({reason(error)})") from None
        return dict(zip(self._outputs, values, strict=True))


class CudaEngine(OnnxRuntimeEngine):
    """A graph in ONNX Runtime on an NVIDIA GPU, in float32 (no TF32)."""

    name: ClassVar[str] = "cuda"
    provider: ClassVar[str] = _CUDA

    @classmethod
    def _providers(cls, cache: Path | None) -> list[Provider]:
        del cache
        return [(_CUDA, {"use_tf32": "0"}), (_CPU, {})]


class TensorRtEngine(OnnxRuntimeEngine):
    """A graph in ONNX Runtime by TensorRT, in float32; compiled once where there is a cache."""

    name: ClassVar[str] = "tensorrt"
    provider: ClassVar[str] = _TENSORRT

    @classmethod
    def _providers(cls, cache: Path | None) -> list[Provider]:
        options = {"trt_fp16_enable": "0"}
        if cache:
            options |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(cache),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(cache),
            }
        return [(_TENSORRT, options), (_CUDA, {"use_tf32": "0"}), (_CPU, {})]


def refuse_fallback(path: Path, wanted: str, session: Any) -> None:
    """Raise `ModelError` where ONNX Runtime took another provider than `wanted`: it says so in its log alone."""
    session.disable_fallback()
    taken = session.get_providers()
    if not taken or taken[0] != wanted:
        raise ModelError(
            f"{path}: {wanted} did not start and onnxruntime would go on with {', '.join(taken) or 'nothing'}; "
            "check the GPU's driver and libraries, or use another backend"
        )


def _tensor(path: Path, declared: Any) -> Tensor:
    if declared.type not in _DTYPES:
        raise ModelError(f"{path}: input {declared.name} is a {declared.type}; that type is not supported")
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in declared.shape)
    return Tensor(shape, np.dtype(_DTYPES[declared.type]))
