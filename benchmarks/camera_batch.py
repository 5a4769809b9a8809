"""Whether pictures of several cameras are detected faster in one batch than one after the other.

    python benchmarks/camera_batch.py [--threads 1 2] [--rounds 30]

A YOLOv8n of the bundled detectors' shape (384 x 640, random weights: time does not depend on them) in OpenVINO, in
batches of 1, 2 and 4 that take turns. Told are milliseconds a picture, medians over rounds, and the ratio of rates.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch

BATCHES = (1, 2, 4)
HEIGHT, WIDTH = 384, 640


def graphs(folder: Path) -> dict[int, Path]:
    """The network as ONNX, a file a batch size."""
    from ultralytics import YOLO

    torch.manual_seed(0)
    network: Any = YOLO("yolov8n.yaml").model.eval()
    network.model[-1].export, network.model[-1].format = True, "onnx"
    made = {}
    for batch in BATCHES:
        made[batch] = folder / f"{batch}.onnx"
        torch.onnx.export(network, (torch.zeros(batch, 3, HEIGHT, WIDTH),), made[batch], dynamo=False, opset_version=17)
    return made


def compiled(path: Path, threads: int, precision: str) -> Any:
    """A request, set up as the device's engine is."""
    core = ov.Core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = ["f32", *(["bf16"] if "BF16" in able else [])]
    rows = {batch: np.random.default_rng(0).random((batch, 3, HEIGHT, WIDTH), np.float32) for batch in BATCHES}
    print("| threads | precision | one by one, ms a picture | in twos | in fours |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        files = graphs(Path(scratch))
        for threads in options.threads:
            for precision in precisions:
                requests = {batch: compiled(path, threads, precision) for batch, path in files.items()}
                took: dict[int, list[float]] = {batch: [] for batch in BATCHES}
                for _ in range(options.rounds):
                    for batch, request in requests.items():
                        began = time.perf_counter()
                        request.infer({0: rows[batch]})
                        took[batch].append(1000 * (time.perf_counter() - began) / batch)
                alone, *others = (float(np.median(took[batch])) for batch in BATCHES)
                told = " | ".join(f"{each:.1f} ({alone / each:.2f} times the pictures)" for each in others)
                print(f"| {threads} | {precision} | {alone:.1f} | {told} |")


if __name__ == "__main__":
    main()
