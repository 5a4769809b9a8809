"""The edge node's perception against ultralytics' `YOLO.predict`: the same weights, pictures and threads, in one run.

The bundled detectors are ONNX graphs that give boxes, maps for the fusion model, and conditions in one pass. The rival
runs `predictions` alone, cut out of that very graph (`onnx.utils.extract_model`) with the metadata that ultralytics
reads, as ONNX and as OpenVINO IR; so it has less to compute than ours. Both sides begin with decoded pixels and end
with boxes after suppression. They take turns in blocks of pictures, each first in every other block; a ratio is the
median over blocks of the rival's time by ours. How many clear boxes both sides share tells that they do the same job.
For the yard the whole perception of camera, LiDAR and microphone is measured as well.

    python benchmarks/edge.py [--threads 2] [--blocks 12] [--block 10] [--pcb FOLDER] [--variant TASK=FOLDER]

`--pcb` is a DeepPCB folder; without one the pcb detector sees made pictures of natural statistics. Both sides compute
in the precision that OpenVINO takes by itself: bfloat16 where the processor has it. `--variant` is what
`fusion export detector --precision int8` let through, measured beside the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tqdm import tqdm

from edge_node.config import EdgeSettings, EngineSettings
from edge_node.defaults import bundled_recording
from edge_node.doctor.agreement import CLEAR, LEAST_IOU
from edge_node.doctor.frames import recorded, still
from edge_node.models import DETECTOR, FUSER, camera_of, load_detector, load_perception, model_folder
from fusion.synchronization import Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import Box2D, Image, Sample

FLOOR, IOU, MOST = 0.05, 0.5, 32
"""Score floor, overlap and count of detections, on both sides."""
WARM = 5
Boxes = list[tuple[str, float, Box2D]]


@dataclass(slots=True)
class Way:
    """One side: `run(i)` perceives picture i. Milliseconds a picture, a list a block."""

    name: str
    run: Callable[[int], object]
    blocks: list[list[float]] = field(default_factory=list)

    def block(self, order: Sequence[int]) -> None:
        """Time the pictures `order`, one by one."""
        self.blocks.append([])
        for index in order:
            began = time.perf_counter_ns()
            self.run(index)
            self.blocks[-1].append((time.perf_counter_ns() - began) / 1e6)

    @property
    def medians(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Median of every block (blocks,)."""
        return np.array([np.median(block) for block in self.blocks])


def cut_out(task: Task, graph: Path, folder: Path, size: tuple[int, int]) -> dict[str, Path]:
    """Ultralytics' formats of the detector's predictions, by name. `size` is height and width."""
    import onnx
    import openvino as ov
    import yaml

    path = folder / f"{task.name}.onnx"
    onnx.utils.extract_model(str(graph), str(path), ["images"], ["predictions"])
    names = dict(enumerate(task.classes))
    told = {"task": "detect", "stride": 32, "batch": 1, "imgsz": list(size), "names": names}
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {key: str(value) for key, value in told.items()})
    onnx.save(model, str(path))
    compiled = folder / f"{task.name}_openvino_model"
    compiled.mkdir()
    ov.save_model(ov.convert_model(str(path)), str(compiled / f"{task.name}.xml"), compress_to_fp16=False)
    (compiled / "metadata.yaml").write_text(yaml.safe_dump(told))
    return {"onnxruntime": path, "openvino": compiled}


def rival(path: Path, size: tuple[int, int], threads: int) -> Callable[[Any], Boxes]:
    """`YOLO(path).predict` of a BGR picture, with so many threads inside its session."""
    from ultralytics import YOLO

    model = YOLO(str(path), task="detect")

    def predict(pixels: Any) -> Boxes:
        result = model.predict(
            pixels, imgsz=size, conf=FLOOR, iou=IOU, max_det=MOST, device="cpu", verbose=False, save=False
        )[0]
        found = zip(result.boxes.xyxy.numpy(), result.boxes.conf.numpy(), result.boxes.cls.numpy(), strict=True)
        return [(result.names[int(label)], float(score), Box2D(*map(float, box))) for box, score, label in found]

    with _threads(threads):
        predict(np.zeros((*size, 3), np.uint8))
    return predict


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """ONNX Runtime sessions and OpenVINO models made inside have `count` threads; ultralytics has no option for it."""
    import onnxruntime
    import openvino as ov

    session, compiled = onnxruntime.InferenceSession, ov.Core.compile_model

    def make_session(path: Any, options: Any = None, **more: Any) -> Any:
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = count
        return session(path, options, **more)

    def compile_model(core: Any, model: Any, device_name: str, config: dict[str, Any]) -> Any:
        return compiled(core, model, device_name, config | {"INFERENCE_NUM_THREADS": count})

    with (
        mock.patch.object(onnxruntime, "InferenceSession", make_session),
        mock.patch.object(ov.Core, "compile_model", compile_model),
    ):
        yield


def shared(ours: Sequence[Boxes], theirs: Sequence[Boxes]) -> tuple[float, int]:
    """Share of clear boxes of either side that the other has too, and how many there are."""
    hits = total = 0
    for mine, other in zip(ours, theirs, strict=True):
        for some, rest in ((mine, other), (other, mine)):
            clear = [one for one in some if one[1] >= CLEAR]
            hits += sum(any(r[0] == c[0] and r[2].iou(c[2]) >= LEAST_IOU for r in rest) for c in clear)
            total += len(clear)
    return hits / total if total else 1.0, total


def take_turns(ways: Sequence[Way], pictures: int, blocks: int, block: int, name: str) -> None:
    """Every way on the same pictures, block by block, in an order that turns."""
    for way in ways:
        way.block([index % pictures for index in range(WARM)])
        way.blocks.clear()
    for number in tqdm(range(blocks), desc=name, unit="block"):
        order = [(number * block + index) % pictures for index in range(block)]
        turn = number % len(ways)
        for way in [*ways[turn:], *ways[:turn]]:
            way.block(order)


def measure(task: Task, samples: Sequence[Sample], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All ways of one task; a row each."""
    folder, camera = model_folder(task, ""), camera_of(task, "")
    readings = [sample.slots[camera].reading for sample in samples]
    images = [reading.payload for reading in readings if reading and isinstance(reading.payload, Image)]
    assert len(images) == len(samples), "a sample without a picture"
    pixels = [np.ascontiguousarray(image.pixels[..., ::-1]) for image in images]
    rows: list[dict[str, Any]] = []
    for backend in ("onnxruntime", "openvino"):
        settings = EngineSettings(
            backend=backend, threads=options.threads, precision="auto", score_floor=FLOOR, max_iou=IOU,
            max_iou_across=1.0, max_detections=MOST,
        )  # fmt: skip
        detector = load_detector(task, folder, settings)
        size = (detector.profile.image_height, detector.profile.image_width)
        with tempfile.TemporaryDirectory() as scratch:
            graphs = cut_out(task, folder / DETECTOR, Path(scratch), size)
            predict = rival(graphs[backend], size, options.threads)
        ways = [
            Way("ultralytics predict", lambda i, p=predict: p(pixels[i])),
            Way("detector, maps, conditions", lambda i, d=detector: d.run(images[i])),
        ]
        if variant := options.variant.get(task.name):
            fewer_bits = load_detector(task, variant, settings)
            ways.append(Way("the same, its int8 variant", lambda i, d=fewer_bits: d.run(images[i])))
        if (folder / FUSER).is_file():
            perception = load_perception(task, camera, folder, settings)
            ways.append(Way("camera + LiDAR + voice", lambda i, p=perception: p.fuse(samples[i], p.detect(samples[i]))))
        found = [detector.run(image) for image in images]
        ours = [[(d.label, d.score, result.placement.to_frame(d.box)) for d in result.detections] for result in found]
        agreed, boxes = shared(ours, [predict(each) for each in pixels])
        take_turns(ways, len(samples), options.blocks, options.block, f"{task.name}, {backend}")
        rows += [_row(task, backend, way, ways[0], agreed, boxes) for way in ways]
    return rows


def _row(task: Task, backend: str, way: Way, other: Way, agreed: float, boxes: int) -> dict[str, Any]:
    every = np.concatenate(way.blocks)
    ratios = other.medians / way.medians
    return {
        "task": task.name, "engine": backend, "way": way.name, "pictures": len(every),
        "p50_ms": round(float(np.median(every)), 2), "p99_ms": round(float(np.percentile(every, 99)), 2),
        "per_s": round(1000 / float(every.mean()), 2),
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_low": round(float(ratios.min()), 3), "ratio_high": round(float(ratios.max()), 3),
        "boxes_shared": round(agreed, 4), "boxes": boxes,
    }  # fmt: skip


def samples_of(task: Task, path: Path | None, most: int) -> list[Sample]:
    """Samples of `path`, or one made picture."""
    if path is None:
        return still(task, Synchronizer.of_task(task, SynchronizerSettings()).reference, fused=False)
    source = {"path": path, "split": "test" if path.is_dir() else ""}
    return recorded(EdgeSettings.model_validate({"source": source, "task": task.name}), task, path, most)


def main() -> None:
    """Measure both tasks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--block", type=int, default=10, help="pictures a block")
    parser.add_argument("--pcb", type=Path, help="a DeepPCB folder")
    parser.add_argument("--variant", action="append", default=[], metavar="TASK=FOLDER")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.variant = {name: Path(folder) for name, _, folder in (given.partition("=") for given in options.variant)}
    import torch

    torch.set_num_threads(options.threads)
    recordings = {"yard": bundled_recording("yard"), "pcb": options.pcb}
    rows = []
    for name, path in recordings.items():
        task = Task.load(name)
        rows += measure(task, samples_of(task, path, options.blocks * options.block), options)
    print(f"{options.threads} threads, {options.blocks} blocks of {options.block} pictures; ratio of pictures a second")
    print("| task | engine | way | p50 ms | p99 ms | pictures/s | ratio [least, most] | clear boxes shared |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        print(
            f"| {row['task']} | {row['engine']} | {row['way']} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} "
            f"| {row['per_s']:.1f} | {ratio} | {row['boxes_shared']:.1%} of {row['boxes']} |"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
