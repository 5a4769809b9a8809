"""A trained detector as `detector.onnx` and the codec profile of its maps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fusion.codec import Level, Profile, fit_frequencies
from fusion.engines import load_engine
from fusion.preparation import letterbox, to_input
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.input_size import input_size
from fusion.training.detection.trunk import (
    CLIP,
    Detector,
    Projection,
    Trunk,
    by_level,
    fit_projection,
    gather_cells,
    load_detector,
    open_cells,
)
from fusion.training.onnx_file import export_onnx
from fusion.types import Float32Array, Int8Array, UInt8Array

CHANNELS = (24, 32, 32)
"""Kept channels a level, strides 8, 16 and 32."""
BITS = (1.6, 1.8, 1.8)
"""Bits a symbol each level's step is chosen for, on the cells the calibration images would send."""
OUTPUTS = ("predictions", "p3", "p4", "p5")
CELLS = 200
"""Cells an image and level that tables are fitted to, at most."""


def export_detector(weights: Path, task: Task, images: Sequence[UInt8Array], folder: Path, *, seed: int = 7) -> Profile:
    """Freeze `weights` (an ultralytics `.pt`) into `folder`: `detector.onnx` and the codec profile.

    `images` are calibration pictures (H, W, 3) uint8 RGB from the training split.
    """
    width, height = input_size(task)
    detector = load_detector(weights, task, width, height)
    inputs = [to_input(letterbox(image, width, height)[0]) for image in images]
    cells = gather_cells(detector, inputs, CELLS, seed)
    projections = [
        fit_projection(c, k, b, detector.reading(level))
        for level, (c, k, b) in enumerate(zip(cells, CHANNELS, BITS, strict=True))
    ]
    graph = export_onnx(
        Trunk(detector, projections),
        (torch.zeros(1, 3, height, width),),
        folder / GRAPH_NAME,
        input_names=["images"],
        output_names=[*OUTPUTS, *(("conditions",) if len(detector.conditions) else ())],
    )
    profile = _profile(task, detector, projections, cells, graph)
    profile.save(folder)
    return profile


def refit_profile(base: Profile, graph: Path, images: Sequence[UInt8Array], *, threads: int, seed: int = 7) -> Profile:
    """The profile of another graph of the same trunk: the steps of `base`, its tables fitted to the codes that `graph`
    gives for `images` (as in `export_detector`), and so a fingerprint of its own.

    A level of which no image opens a cell keeps the tables it had.
    """
    engine = load_engine(graph, backend="onnxruntime", threads=threads)
    sizes = [base.map_size(index) for index in range(len(base.levels))]
    rng = np.random.default_rng(seed)
    found: list[list[Int8Array]] = [[] for _ in base.levels]
    for image in images:
        outputs = engine.run({"images": to_input(letterbox(image, base.image_width, base.image_height)[0])})
        gates = open_cells(by_level(outputs["predictions"][0, 4:].max(0), sizes))
        for codes, level, gate in zip(found, base.levels, gates, strict=True):
            cells = rng.permutation(np.flatnonzero(gate))[:CELLS]
            codes.append(outputs[level.name][0].reshape(level.channels, -1)[:, cells].T)
    levels = []
    for level, parts in zip(base.levels, found, strict=True):
        sample = np.concatenate(parts)
        levels.append(replace(level, frequencies=fit_frequencies(sample, level.clip)) if len(sample) else level)
    return Profile.create(
        task=base.task,
        image_width=base.image_width,
        image_height=base.image_height,
        levels=tuple(levels),
        trunk_sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
    )


def _profile(
    task: Task, detector: Detector, projections: Sequence[Projection], cells: Iterable[Float32Array], graph: Path
) -> Profile:
    width, height = input_size(task)
    levels = []
    for stride, projection, vectors in zip(detector.strides, projections, cells, strict=True):
        codes = np.clip(np.rint((vectors - projection.mean) @ projection.weight.T / projection.step), -CLIP, CLIP)
        steps = np.full(len(projection.weight), projection.step, np.float32)
        levels.append(Level(stride, len(steps), steps, CLIP, fit_frequencies(codes.astype(np.int8), CLIP)))
    return Profile.create(
        task=task.name,
        image_width=width,
        image_height=height,
        levels=tuple(levels),
        trunk_sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
    )
