"""From readings to a fused answer in three engines, on the same inputs: PyTorch eager, ONNX Runtime, OpenVINO.

    python benchmarks/fusion_latency.py                       the bundled yard model, and the small kitti model
    python benchmarks/fusion_latency.py --only yard --rounds 300

`yard`: moments of the bundled recording that hold picture, sweep and voice go through the device's own stages
(letterbox, detector, suppression; the sweep's points on the grid; log-mel inside the graph; items with their points;
fuser). Every encoder runs in every sample: a device listens only every 300 ms, and keeps the tokens of a sweep it has
seen. The rays of a calibration are kept, as there. JPEG decoding is the source's part and not in it. The detector is
bundled as a graph alone: the row of PyTorch has ONNX Runtime's detector in it.

`kitti`: one camera and a LiDAR, size `small`, random weights, a random picture and a sweep of 115,000 random points;
its graphs are exported to a temporary folder first (a minute or two).

All in float32. Engines take turns within every round, in an order that moves on. Milliseconds, p50 (p99); the last
column is the median over rounds of an engine's sum by that of ONNX Runtime in the same round. The fusion layers alone
against other ways to write them: `fusion_step.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from fusion_step import interleaved
from torch import nn
from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import Engine, load_engine
from fusion.errors import ModelError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import load_fusion
from fusion.model.export import fusion_graphs
from fusion.model.sizes import bev_spec
from fusion.perception.detector import DetectorStage
from fusion.perception.fused import FusionStage
from fusion.perception.hearing import Hearing
from fusion.preparation import speech_present
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.pillars import pillar_input
from fusion.preparation.surround import InputSize, surround
from fusion.recording.base import open_recording
from fusion.synchronization import Aligned, Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.training.fusion_bundle import export_fusion, in_order
from fusion.types import AudioChunk, Image, SensorSlot

PACKAGE = Path(__file__).resolve().parents[1] / "fusion"
ENGINES = ("torch", "onnxruntime", "openvino")
BASE = "onnxruntime"
AGREE = 1e-3
"""Engines whose answers differ by more, relative to values of 1 or more, are not compared."""
PARTS = ("detector", "preparation", "camera", "lidar", "speech", "fuser")
Arrays = dict[str, Any]


class TorchEngine:
    """Runs a graph's module in eager mode."""

    name = "torch"

    def __init__(self, module: nn.Module, outputs: Sequence[str], inputs: Mapping[str, torch.Tensor]) -> None:
        self.module, self.outputs = module, tuple(outputs)
        self.inputs = {name: tuple(value.shape) for name, value in inputs.items()}

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Any]) -> Arrays:
        """Every output by name."""
        values = self.module(*(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self.inputs))
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}


@dataclass(slots=True)
class Timed:
    """An engine that adds up what it takes, in milliseconds."""

    engine: Engine
    ms: float = 0.0

    @property
    def name(self) -> str:
        """The engine's own."""
        return self.engine.name

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The engine's own."""
        return self.engine.inputs

    def run(self, inputs: Mapping[str, Any]) -> Arrays:
        """The engine's answer."""
        started = time.perf_counter_ns()
        answer = self.engine.run(inputs)
        self.ms += (time.perf_counter_ns() - started) / 1e6
        return answer


class Listening(Hearing):
    """Listens at every sample."""

    def due(self, _time_ns: int) -> bool:
        """Always."""
        return True


@dataclass(slots=True, eq=False)
class Way:
    """One engine's way from readings to an answer: `run` it on a sample, and `parts` gains a row of milliseconds."""

    engines: dict[str, Timed]
    parts: list[dict[str, float]] = field(default_factory=list)
    answer: Arrays = field(default_factory=dict)

    def noted(self, started_ns: int, detector_ms: float = 0.0) -> None:
        """Note what the sample took since `started_ns`; what is no engine's is preparation."""
        total = (time.perf_counter_ns() - started_ns) / 1e6
        row = {name: timed.ms for name, timed in self.engines.items()}
        self.parts.append({"detector": detector_ms, "preparation": total - sum(row.values()) - detector_ms, **row})
        for timed in self.engines.values():
            timed.ms = 0.0


class YardWay(Way):
    """The device's detector and fusion stages."""

    def __init__(self, engines: dict[str, Engine], detector: DetectorStage, model: FusionModel, task: Task) -> None:
        super().__init__({name: Timed(engine) for name, engine in engines.items()})
        self.detector, self.camera = detector, "front"
        self.stage = FusionStage(self.engines, model.spec, task)
        self.stage._hearing = Listening()

    def run(self, sample: Aligned, rig: Rig) -> None:
        """Detect and fuse."""
        started = time.perf_counter_ns()
        image = _reading(sample.slots[self.camera])
        found = self.detector.run(image)
        detector_ms = (time.perf_counter_ns() - started) / 1e6
        scene = self.stage.run(sample.time_ns, sample.slots, rig, found)
        self.noted(started, detector_ms)
        tokens = [thing.token for thing in scene.objects]
        self.answer = {"latents": scene.latents, "tokens": np.array(tokens)}


class GroundWay(Way):
    """Pictures and sweep of a driving task, prepared as its training frames are."""

    def __init__(self, engines: dict[str, Engine], spec: FusionSpec, camera: CameraCalibration) -> None:
        super().__init__({name: Timed(engine) for name, engine in engines.items()})
        self.spec, self.camera = spec, camera
        self.size = InputSize(spec.image_width, spec.image_height)

    def run(self, pixels: Any, sweep: Any) -> None:
        """Prepare, encode and fuse."""
        started = time.perf_counter_ns()
        seen = surround(["left"], {"left": self.camera}, {"left": (pixels, 0.0)}, self.size)
        points, valid = pillar_input(sweep, self.spec.grid, self.spec.points)
        tokens = {
            "camera": self.engines["camera"].run({"images": seen.images, "rays": seen.rays}),
            "lidar": self.engines["lidar"].run({"points": points, "points_valid": valid}),
        }
        ports: Arrays = {"image_from_ego": seen.image_from_ego[None]}
        for name, made in tokens.items():
            count = made["features"].shape[1]
            ports |= {f"{name}_features": made["features"], f"{name}_positions": made["positions"]}
            ports |= {f"{name}_valid": np.ones((1, count), np.bool_), f"{name}_age": np.zeros((1, count), np.float32)}
        self.answer = self.engines["fuser"].run(ports)
        self.noted(started)


def _reading(slot: SensorSlot) -> Any:
    assert slot.reading is not None
    return slot.reading.payload


def engines_of(backend: str, model: FusionModel, folder: Path, threads: int) -> dict[str, Engine]:
    """The fusion model's graphs in one engine. Raises `ModelError` naming the graph that it cannot run."""
    graphs = fusion_graphs(model)
    if backend == "torch":
        return {graph.name: TorchEngine(graph.module, graph.outputs, graph.inputs) for graph in graphs}
    return {
        graph.name: load_engine(folder / f"{graph.name}.onnx", backend=backend, threads=threads, precision="f32")
        for graph in graphs
    }


def yard_samples(limit: int) -> tuple[Rig, list[Aligned]]:
    """The moments of the bundled recording with picture, sweep and voice, in order."""
    task = Task.load("yard")
    reader = open_recording(PACKAGE / "recordings" / "yard.mcap", task)
    rig = reader.info().rig
    assert rig is not None
    whole = [one for one in _aligned(task, reader) if all(slot.reading is not None for slot in one.slots.values())]
    spoken = [one for one in whole if _spoken(one)]
    return rig, spoken[:limit]


def _aligned(task: Task, reader: Any) -> Iterator[Aligned]:
    synchronizer = Synchronizer.of_task(task, SynchronizerSettings())
    for cursor, reading in reader.readings():
        yield from (one for one in synchronizer.push(cursor, reading) if isinstance(one, Aligned))
    yield from (one for one in synchronizer.flush() if isinstance(one, Aligned))


def _spoken(sample: Aligned) -> bool:
    sound = _reading(sample.slots["mic"])
    assert isinstance(sound, AudioChunk)
    assert isinstance(_reading(sample.slots["front"]), Image)
    return speech_present(sound.pcm, sound.sample_rate_hz)


def yard(rounds: int, threads: int) -> str:
    """The table of the bundled yard model."""
    folder, task = PACKAGE / "weights" / "yard", Task.load("yard")
    rig, samples = yard_samples(rounds)
    model, profile = load_fusion(folder), Profile.load(folder)
    paths: dict[str, Way | str] = {}
    for backend in ENGINES:
        try:
            graph = load_engine(
                folder / "detector.onnx",
                backend=BASE if backend == "torch" else backend,
                threads=threads,
                precision="f32",
            )
            engines = engines_of(backend, model, folder, threads)
            paths[backend] = YardWay(engines, DetectorStage(graph, task, profile), model, task)
        except ModelError as error:
            paths[backend] = str(error)
    return measured("yard", paths, [(sample, rig) for sample in samples], rounds)


def kitti(rounds: int, threads: int) -> str:
    """The table of a small ground model."""
    task, rng = Task.load("kitti"), np.random.default_rng(7)
    torch.manual_seed(7)
    model = build_fusion(bev_spec(task, "small")).eval()
    place = rigid(np.eye(3), np.array([0.3, 0.0, 1.6])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    camera = CameraCalibration.pinhole(1242, 375, np.deg2rad(81.0), place)
    given = [(_picture(rng), _sweep(rng, 115_000)) for _ in range(8)]
    with tempfile.TemporaryDirectory() as made:
        print("exporting the small kitti model ...", flush=True)
        apart = export_fusion(model, Path(made))
        model = load_fusion(Path(made))
        paths: dict[str, Way | str] = {}
        for backend in ENGINES:
            try:
                engines = engines_of(backend, model, Path(made), threads)
                paths[backend] = GroundWay(engines, model.spec, camera)
            except ModelError as error:
                paths[backend] = str(error)
        table = measured("kitti", paths, given, rounds)
    return f"{table}\n\nexported graphs differ from the model by {max(apart.values()):.1e} at most"


def _picture(rng: np.random.Generator) -> Any:
    small = rng.integers(0, 256, (24, 78, 3), dtype=np.uint8)
    return cv2.resize(small, (1242, 375), interpolation=cv2.INTER_CUBIC)


def _sweep(rng: np.random.Generator, count: int) -> Any:
    """All around, dense near, thin far: x y z in metres and intensity, (count, 4)."""
    reach, angle = 3.0 * 25.0 ** rng.random(count), rng.uniform(-np.pi, np.pi, count)
    height = 2.5 * rng.random(count) ** 3 - 0.1
    table = np.stack([reach * np.cos(angle), reach * np.sin(angle), height, rng.random(count)], 1)
    return table.astype(np.float32)


def measured(name: str, paths: Mapping[str, Way | str], given: Sequence[tuple[Any, ...]], rounds: int) -> str:
    """Run every path on every sample in turn, see that they answer the same, and make the table."""
    able = {backend: path for backend, path in paths.items() if not isinstance(path, str)}
    with tqdm(total=rounds, desc=name, unit="round") as bar:
        turn = {backend: _cycled(path, given) for backend, path in able.items()}
        runs = {backend: partial(next, steps) for backend, steps in turn.items()}
        times = interleaved(runs, rounds, bar)
    apart = {backend: _apart(able[BASE].answer, path.answer) for backend, path in able.items() if BASE in able}
    wrong = [backend for backend, value in apart.items() if value > AGREE]
    if wrong:
        raise SystemExit(f"{name}: {wrong[0]} answers differently from {BASE}, by {apart[wrong[0]]:.1e}")
    samples = f"{len(given)} samples, {rounds} rounds, answers apart by {max(apart.values(), default=0):.1e} at most"
    lines = [
        f"\n### {name}: {samples}\n",
        f"| engine | {' | '.join(PARTS)} | sum | by {BASE} |",
        "|" + "---|" * (len(PARTS) + 3),
    ]
    base = np.array(times.get(BASE, [np.nan]))
    for backend, path in paths.items():
        if isinstance(path, str):
            lines.append(f"| {backend} | cannot run it: {path} |{' |' * (len(PARTS) + 1)}")
            continue
        rows = path.parts[-rounds:]
        cells = [_cell([row[part] for row in rows]) if part in rows[0] else "-" for part in PARTS]
        ratio = np.median(np.array(times[backend]) / base)
        lines.append(f"| {backend} | {' | '.join(cells)} | **{_cell(times[backend])}** | {ratio:.2f} |")
    return "\n".join(lines)


def _cycled(path: Any, given: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    while True:
        for one in given:
            path.run(*one)
            yield


def _cell(took: Sequence[float]) -> str:
    return f"{np.median(took):.1f} ({np.percentile(took, 99):.1f})" if max(took) > 0 else "-"


def _apart(expected: Arrays, answer: Arrays) -> float:
    if "labels" in expected:
        expected, answer = in_order(expected), in_order(answer)
    if any(expected[key].shape != answer[key].shape for key in expected):
        return float("inf")
    pairs = [(expected[key].astype(np.float64), answer[key].astype(np.float64)) for key in expected]
    return max(float((np.abs(a - b) / np.maximum(1, np.abs(a))).max(initial=0.0)) for a, b in pairs)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["yard", "kitti"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    tables = {"yard": yard, "kitti": kitti}
    chosen = [arguments.only] if arguments.only else list(tables)
    print("\n".join(tables[name](arguments.rounds, arguments.threads) for name in chosen))


if __name__ == "__main__":
    main()
