"""Writes a fusion model's four graphs and weights, and proves them equal to the model they came from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.engines import load_engine
from fusion.errors import ModelError
from fusion.model.build import FusionModel
from fusion.model.checkpoint import round_to_half, save_fusion
from fusion.model.export import Graph, fuser_ports, fusion_graphs
from fusion.training.onnx_file import export_onnx, store_exact_halves

PARITY = 1e-4
"""Largest difference between a graph and its model that is let through, relative to values of 1 or more."""


def export_fusion(model: FusionModel, folder: Path, *, backend: str = "onnxruntime") -> dict[str, float]:
    """Write `camera.onnx lidar.onnx speech.onnx fuser.onnx fusion.safetensors fusion.json` into `folder`.

    Weights are rounded to float16 and stored so; the model given is left as it is. Returns the largest difference a
    graph and availability pattern. Raises `ModelError` when one exceeds `PARITY`.
    """
    model = round_to_half(copy.deepcopy(model).eval())
    folder.mkdir(parents=True, exist_ok=True)
    for graph in fusion_graphs(model):
        path = folder / f"{graph.name}.onnx"
        export_onnx(
            graph.module,
            tuple(graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            half_weights=False,
        )
        store_exact_halves(path)
    save_fusion(folder, model, half=True)
    found = check_parity(model, folder, backend=backend)
    worst = max(found, key=lambda name: found[name])
    if found[worst] > PARITY:
        raise ModelError(f"{folder}: {worst} differs from its model by {found[worst]:.2e}; {PARITY} is allowed")
    return found


def check_parity(model: FusionModel, folder: Path, *, backend: str = "onnxruntime", seed: int = 7) -> dict[str, float]:
    """Largest difference between graphs in `folder` and `model` on random inputs, by graph and availability pattern.

    Absent sensors are filled with NaN, which must not reach any output.
    """
    found: dict[str, float] = {}
    for graph in fusion_graphs(model):
        engine = load_engine(folder / f"{graph.name}.onnx", backend=backend, threads=1, precision="f32")
        for pattern, inputs in _cases(model, graph, seed):
            with torch.inference_mode():
                expected = graph.module(*inputs.values())
            answer = engine.run({name: value.numpy() for name, value in inputs.items()})
            name = graph.name if not pattern else f"{graph.name} with {pattern}"
            wanted = {port: value.numpy() for port, value in zip(graph.outputs, expected, strict=True)}
            if "labels" in wanted:
                wanted, answer = in_order(wanted), in_order(answer)
            found[name] = max(_difference(value, answer[port]) for port, value in wanted.items())
    return found


def in_order(peaks: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A ground model's answer with its peaks by class and place, those as good as the last one left out: which of
    equal peaks comes first, or at all, is nobody's to say.
    """
    scores, boxes = peaks["scores"][0], peaks["box3d"][0]
    sure = np.flatnonzero(scores > scores[-1] + PARITY)
    order = sure[np.lexsort((boxes[sure, 1].round(2), boxes[sure, 0].round(2), peaks["labels"][0, sure]))]
    a_peak = {"scores", "labels", "box3d", "velocity", "condition_logits", "asked_logits"}
    return {name: value[:, order] if name in a_peak else value for name, value in peaks.items()}


def _difference(expected: NDArray[Any], answer: NDArray[Any]) -> float:
    if expected.shape != answer.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    if expected.dtype == np.bool_:
        return 0.0 if np.array_equal(expected, answer) else float("inf")
    if not (np.isfinite(answer).all() and np.isfinite(expected).all()):
        return float("inf")
    return float((np.abs(expected - answer) / np.maximum(1.0, np.abs(expected))).max())


def _cases(model: FusionModel, graph: Graph, seed: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(seed)
    if graph.name != "fuser":
        yield "", {name: _random(name, value, generator) for name, value in graph.inputs.items()}
        return
    full = random_fuser_inputs(model, generator)
    sensors = list(model.spec.sensors)
    for there in product((True, False), repeat=len(sensors)):
        present = dict(zip(sensors, there, strict=True))
        pattern = "+".join(name for name in sensors if present[name]) or "nothing"
        yield pattern, absent_as_nan(full, present)


def random_fuser_inputs(model: FusionModel, generator: torch.Generator) -> dict[str, Tensor]:
    """Every port of the fuser filled at random, all sensors available and half of the boxes valid."""
    ports = {name: _random(name, value, generator) for name, value in fuser_ports(model).items()}
    for name in model.spec.sensors:
        ports[f"{name}_valid"] = torch.ones_like(ports[f"{name}_valid"])
    return ports


def absent_as_nan(ports: Mapping[str, Tensor], present: Mapping[str, bool]) -> dict[str, Tensor]:
    """`ports` with absent sensors unavailable and their tokens, and what is made of them, NaN."""
    result = dict(ports)
    for name, there in present.items():
        if there:
            continue
        result[f"{name}_valid"] = torch.zeros_like(ports[f"{name}_valid"])
        for part in ("features", "positions", "age"):
            result[f"{name}_{part}"] = torch.full_like(ports[f"{name}_{part}"], float("nan"))
    if not present.get("camera", True) and "image_from_ego" in ports:
        result["image_from_ego"] = torch.full_like(ports["image_from_ego"], float("nan"))
    if "box_valid" not in ports:
        return result
    if not present["camera"]:
        result["box_valid"] = torch.zeros_like(ports["box_valid"])
        for name in set(item_ports_of_boxes()) & set(ports):
            result[name] = torch.full_like(ports[name], float("nan"))
    if not present["lidar"]:
        result["item_points_valid"] = torch.zeros_like(ports["item_points_valid"])
        result["item_points"] = torch.full_like(ports["item_points"], float("nan"))
    return result


def item_ports_of_boxes() -> tuple[str, ...]:
    """Item ports that mean nothing without a box."""
    return ("boxes", "box_rays", "class_scores", "condition_scores", "item_place")


def _random(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    if value.dtype == torch.bool:
        return torch.rand(value.shape, generator=generator) < 0.5
    if value.dtype == torch.uint8:
        return torch.randint(0, 256, value.shape, generator=generator, dtype=torch.uint8)
    if value.dtype == torch.int8:
        return torch.randint(-31, 32, value.shape, generator=generator, dtype=torch.int8)
    drawn = torch.rand(value.shape, generator=generator)
    if name in {"points", "rays", "box_rays", "item_place"}:
        return drawn * 24 - 4
    if name == "pcm":
        return drawn - 0.5
    return drawn
