"""A detector as a TensorRT plan, built on the device that will run it: a plan fits one GPU and one version.

From 8.5 on a plan is run as here, and up to 10 float16 is a flag of the builder; from 11 on the graph itself would have
to say what is computed in float16, which is not made here.
Needs the `tensorrt` package and torch with CUDA, both of which a Jetson's or a GPU server's own channel brings; neither
is a dependency of this project.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import Array, load_engine
from fusion.engines.base import Tensor, check_inputs
from fusion.errors import ModelError, UnavailableError
from fusion.perception.detector_variant import VARIANT_NAME
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.measure import measure_engine
from fusion.training.detection.sources import split_stems
from fusion.training.detection.tensorrt_operators import refused_by_tensorrt
from fusion.training.detection.variant import refuse_blind
from fusion.training.variants import check_max_loss, staged

PLAN_NAME = "detector.plan"
_VERSIONS = "8.5 to 10"


def write_plan(task: Task, bundle: Path, pictures: ImageFolder, out: Path, *, max_loss: float, threads: int) -> str:
    """Build the detector of `bundle` in float16 for this machine's GPU, hold it to the float32 graph on the validation
    pictures, and write it to the new folder `out`; returns what was measured.

    The profile is the bundle's: the plan is its graph, computed otherwise, and the graph lies beside it. Raises
    `UnavailableError` where TensorRT or a GPU is missing, `ModelError` when the graph cannot be built or mAP50 or
    mAP50-95 falls by more than `max_loss`; nothing is left behind then.
    """
    check_max_loss(max_loss)
    check_available()
    profile, graph = Profile.load(bundle), bundle / GRAPH_NAME
    profile.check_trunk(graph)
    if refused := refused_by_tensorrt(graph):
        raise ModelError(f"{graph}: TensorRT's parser does not take {', '.join(refused)}")
    stems = split_stems(pictures)[1]
    with staged(out) as part:
        plan = build_plan(graph)
        (part / PLAN_NAME).write_bytes(plan)
        engines = {
            "float32": load_engine(graph, backend="onnxruntime", threads=threads, precision="f32"),
            "variant": PlanEngine(part / PLAN_NAME, plan),
        }
        found = {
            which: measure_engine(task, engine, profile, map(pictures.load, stems), what=which)
            for which, engine in engines.items()
        }
        told = ", ".join(
            f"{name} {getattr(found['float32'], key):.4f} -> {getattr(found['variant'], key):.4f}"
            for name, key in (("mAP50", "map50"), ("mAP50-95", "map50_95"))
        )
        refuse_blind(graph, [found["float32"].map50])
        losses = [getattr(found["float32"], key) - getattr(found["variant"], key) for key in ("map50", "map50_95")]
        if not max(losses) <= max_loss:
            raise ModelError(f"fp16 in TensorRT loses too much: {told}; {max_loss} of each may be lost")
        profile.save(part)
        shutil.copyfile(graph, part / GRAPH_NAME)
        facts = {"precision": "fp16", "engine": "tensorrt", "accuracy": told, "profile_sha256": profile.sha256}
        facts |= {"tensorrt": import_module("tensorrt").__version__, "gpu": torch.cuda.get_device_name()}
        (part / VARIANT_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return f"wrote {out / PLAN_NAME}; {told}"


def check_available() -> None:
    """Raise `UnavailableError` that says what is missing on this machine."""
    if find_spec("tensorrt") is None:
        raise UnavailableError(
            "the package 'tensorrt' is not installed here; a plan is built on the device that runs it: install "
            "NVIDIA's TensorRT there (JetPack brings it) and run this command on it"
        )
    if not torch.cuda.is_available():
        raise UnavailableError("torch sees no GPU here; a TensorRT plan is built on the device that runs it")


def build_plan(graph: Path) -> bytes:
    """Build `graph` in float16, in the foreground, with a progress bar a phase where TensorRT tells of its progress.

    Raises `UnavailableError` for a version of TensorRT that does not build or run it so, `ModelError` for a graph that
    cannot be built.
    """
    trt: Any = import_module("tensorrt")
    _check_version(trt)
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        raise ModelError(f"{graph}: TensorRT cannot read it ({parser.get_error(0).desc()})")
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    if hasattr(trt, "IProgressMonitor"):  # from 8.6 on
        config.progress_monitor = _monitor(trt)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"{graph}: TensorRT cannot build it for {torch.cuda.get_device_name()}; its log tells why")
    return bytes(plan)


def _check_version(trt: Any) -> None:
    if not hasattr(trt.BuilderFlag, "FP16") or not hasattr(trt.IExecutionContext, "execute_async_v3"):
        raise UnavailableError(
            f"TensorRT {trt.__version__} does not build float16 plans as this program does; install TensorRT "
            f"{_VERSIONS}, or let the engine 'tensorrt' of the nodes build the graph in float32"
        )


def _network_flags(trt: Any) -> int:
    """Batches are a dimension like any other: a flag up to 8, deprecated in 10 and then the only way."""
    flag = getattr(getattr(trt, "NetworkDefinitionCreationFlag", None), "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _monitor(trt: Any) -> Any:
    """A progress bar a phase of the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.bars: dict[str, Any] = {}

        def phase_start(self, name: str, _parent: str | None, steps: int) -> None:
            self.bars[name] = tqdm(total=steps, desc=name, unit="step")

        def step_complete(self, name: str, _step: int) -> bool:
            self.bars[name].update()
            return True

        def phase_finish(self, name: str) -> None:
            self.bars.pop(name).close()

    return Monitor()


class PlanEngine:
    """A plan as a `fusion.engines.Engine`, its buffers held by torch on the GPU."""

    name = "tensorrt"

    def __init__(self, path: Path, plan: bytes) -> None:
        trt: Any = import_module("tensorrt")
        self._path = path
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ModelError(f"{path}: not a plan for this GPU and this version of TensorRT; build it again")
        self._context = self._engine.create_execution_context()
        self._declared: dict[str, Tensor] = {}
        self._buffers: dict[str, torch.Tensor] = {}
        for name in (self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)):
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            self._buffers[name] = torch.from_numpy(np.zeros(shape, dtype)).cuda()
            self._context.set_tensor_address(name, self._buffers[name].data_ptr())
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._declared[name] = Tensor(shape, dtype)

    @property
    def inputs(self) -> Mapping[str, tuple[int | str, ...]]:
        """Shape of every input of the graph, by name."""
        return {name: tensor.shape for name, tensor in self._declared.items()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name; see `Engine.run`."""
        check_inputs(self._path, self._declared, inputs)
        for name, array in inputs.items():
            self._buffers[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ModelError(f"{self._path}: TensorRT failed to run it")
        stream.synchronize()
        return {name: value.cpu().numpy() for name, value in self._buffers.items() if name not in self._declared}
