"""Freezes a trained detector into a trunk: one graph with boxes *and* int8 neck maps, and its codec profile.

A tap stands where the neck enters the detection head. Each level is centred, weighed by how much of it the head
reads, rotated onto its principal axes and divided by one step a level, all folded into a 1x1 convolution, then
rounded to int8 inside the graph. A uniform step over rotated channels is transform coding with reverse water-filling
(Goyal, 2001): weak channels round to zero and cost nearly nothing. Taps and head are taken from the network, so that
YOLOv8, YOLO11 and YOLO26 all come out as the same graph. The detector may have been taught kinds (class and
condition, see `fusion.training.detection.kinds`); the graph tells classes and conditions apart again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fusion.errors import ModelError
from fusion.task import Task
from fusion.training.detection.architectures import class_names
from fusion.training.detection.checkpoint import read_checkpoint
from fusion.training.detection.kinds import condition_of, membership, unfit
from fusion.types import BoolArray, Float32Array

CLIP = 31
"""Codes run from -CLIP to CLIP."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """One level's rotation: `weight` (K, C), `mean` (C,), both float32, and the quantiser's `step`."""

    weight: Float32Array
    mean: Float32Array
    step: float


class Detector(nn.Module):
    """An ultralytics detector split at its tap. `classes` and `conditions` sum its kinds up: (C, kinds), (K, kinds)."""

    centres: Tensor
    scale: Tensor
    classes: Tensor
    conditions: Tensor

    def __init__(
        self,
        network: Any,
        image_width: int,
        image_height: int,
        *,
        classes: Float32Array | None = None,
        conditions: Float32Array | None = None,
    ) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(list(network.model)[:-1])
        self.head: Any = list(network.model)[-1]
        self.strides = [int(s) for s in self.head.stride]
        centres, scale = [], []
        for stride in self.strides:
            ys, xs = torch.meshgrid(
                torch.arange(image_height // stride), torch.arange(image_width // stride), indexing="ij"
            )
            centres.append(torch.stack([xs, ys]).reshape(2, -1) + 0.5)
            scale.append(torch.full((1, xs.numel()), float(stride)))
        self.register_buffer("centres", torch.cat(centres, 1)[None], persistent=False)  # (1, 2, A) cells
        self.register_buffer("scale", torch.cat(scale, 1)[None], persistent=False)  # (1, 1, A) pixels a cell
        kinds = int(self.head.nc)
        sums = torch.eye(kinds) if classes is None else torch.from_numpy(classes)
        shares = torch.zeros(0, kinds) if conditions is None else torch.from_numpy(conditions)
        self.register_buffer("classes", sums, persistent=False)
        self.register_buffer("conditions", shares, persistent=False)

    def neck(self, images: Tensor) -> list[Tensor]:
        """The maps that enter the head, finest first, each (B, C_l, H/stride, W/stride)."""
        kept: list[Tensor] = []
        x: Any = images
        for layer in self.layers:
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
            x = layer(x)
            kept.append(x)
        return [kept[i] for i in self.head.f]

    def predictions(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes and scores (B, 4 + C, A): centre x, y, width, height in pixels, then class probabilities; and
        conditions (B, K, A), unnormalised.
        """
        raw = self.head.forward_head(list(maps), self.head.cv2, self.head.cv3)
        distance = self.head.dfl(raw["boxes"])  # (B, 4, A) left top right bottom, cells
        low, high = distance.chunk(2, 1)
        centre = self.centres + (high - low) / 2
        boxes = torch.cat([centre, low + high], 1) * self.scale
        kinds = raw["scores"].sigmoid()
        return torch.cat([boxes, (self.classes @ kinds).clamp(max=1.0)], 1), self.conditions @ kinds

    def reading(self, level: int) -> Float32Array:
        """How much the head reads of each direction of a level's channels: (C_l, C_l), W^T W of its first layers."""
        weight = torch.cat([_read_by(branch[level][0]) for branch in (self.head.cv2, self.head.cv3)])
        return np.asarray((weight.T @ weight).numpy(), np.float32)


class Trunk(nn.Module):
    """The exported graph: `predictions`, one int8 map a level, and `conditions` where the detector tells them."""

    def __init__(self, detector: Detector, projections: Sequence[Projection]) -> None:
        super().__init__()
        self.detector = detector
        self.project = nn.ModuleList(_convolution(p) for p in projections)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """`images` (1, 3, H, W) float32 RGB in 0..1."""
        maps = self.detector.neck(images)
        codes = [
            layer(m).round().clamp(-CLIP, CLIP).to(torch.int8) for layer, m in zip(self.project, maps, strict=True)
        ]
        predictions, conditions = self.detector.predictions(maps)
        return (predictions, *codes, conditions) if len(self.detector.conditions) else (predictions, *codes)


def _convolution(projection: Projection) -> nn.Conv2d:
    channels, inputs = projection.weight.shape
    layer = nn.Conv2d(inputs, channels, 1)
    weight = torch.from_numpy(projection.weight / projection.step)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.copy_(-weight @ torch.from_numpy(projection.mean))
    return layer


def _read_by(first: Any) -> Tensor:
    """The weights (N, C) by which a branch reads its C inputs: of a convolution, or of a depthwise one and the
    pointwise one after it, taken together as if nothing stood between.
    """
    if not isinstance(first, nn.Sequential):
        return cast("Tensor", first.conv.weight.detach().permute(0, 2, 3, 1).flatten(0, 2))
    parts: list[Any] = list(first)
    depthwise, pointwise = (layer.conv.weight.detach() for layer in parts)  # (C, 1, 3, 3), (N, C, 1, 1)
    taps = depthwise.flatten(1).T  # (9, C)
    return cast("Tensor", (taps[None] * pointwise.flatten(1)[:, None]).flatten(0, 1))


def load_detector(weights: Path, task: Task, image_width: int, image_height: int) -> Detector:
    """The network of an ultralytics `.pt`, batch-norms folded, in evaluation mode.

    Raises `ModelError` when it is missing or was taught something else, or less, than the classes of `task`.
    """
    network = read_checkpoint(weights).fuse(verbose=False).eval()
    kinds = class_names(network)
    if why := unfit(kinds, task.classes, task.conditions):
        raise ModelError(
            f"{weights}: its classes are not those of task {task.name} in their order: {why}; train it on that task's "
            "data"
        )
    told = any(condition_of(kind) for kind in kinds)
    return Detector(
        network,
        image_width,
        image_height,
        classes=membership(kinds, task.classes),
        conditions=membership(kinds, task.conditions, by_condition=True) if told else None,
    ).eval()


def open_cells(scores: Sequence[Float32Array], threshold: float = 0.02) -> list[BoolArray]:
    """The cells an item could be sent from: best class score (h, w) a level over `threshold`, grown by one cell
    each way, and every coarser cell above an open finer one.
    """
    gates: list[BoolArray] = []
    finer: Tensor | None = None
    for level in scores:
        mask = torch.from_numpy(np.asarray(level > threshold, np.float32))[None, None]
        mask = functional.max_pool2d(mask, 3, 1, 1)
        if finer is not None:
            mask = torch.maximum(mask, functional.max_pool2d(finer, 2, 2))
        finer = mask
        gates.append(mask[0, 0].bool().numpy())
    return gates


def by_level(best: Float32Array, sizes: Sequence[tuple[int, int]]) -> list[Float32Array]:
    """The anchors' best scores (A,) as one (h, w) map a level: the head lists them level by level, row by row."""
    ends = np.cumsum([height * width for height, width in sizes])
    return [part.reshape(size) for part, size in zip(np.split(best, ends[:-1]), sizes, strict=True)]


@torch.inference_mode()
def gather_cells(detector: Detector, images: Iterable[Float32Array], per_image: int, seed: int) -> list[Float32Array]:
    """Neck vectors (n, C_l) a level from cells the detector itself finds interesting, at most `per_image` an image."""
    rng = np.random.default_rng(seed)
    found: list[list[Float32Array]] = [[] for _ in detector.strides]
    for image in images:
        maps = detector.neck(torch.from_numpy(image))
        best = detector.predictions(maps)[0][0, 4:].amax(0).numpy()
        gates = open_cells(by_level(best, [(m.shape[2], m.shape[3]) for m in maps]))
        for level, (m, gate) in enumerate(zip(maps, gates, strict=True)):
            cells = np.flatnonzero(gate)
            cells = rng.permutation(cells)[:per_image]
            found[level].append(m[0].flatten(1)[:, cells].T.numpy().copy())
    return [np.concatenate(level) for level in found]


def fit_projection(cells: Float32Array, channels: int, bits: float, reading: Float32Array | None = None) -> Projection:
    """Principal axes of `cells` (n, C), and the step that spends `bits` a symbol on average over the kept channels.

    `reading` (C, C) is the metric errors are measured in, by default the plain one: with `Detector.reading`, what is
    kept is what the head would miss most (principal components in a metric, Rao, 1964).
    """
    if len(cells) < channels * 4:
        raise ModelError(
            f"the detector is sure of too few cells ({len(cells)}) in the calibration pictures to fit {channels} "
            "channels; train it longer, or give more pictures to learn from"
        )
    mean = cells.mean(0)
    root = np.eye(cells.shape[1]) if reading is None else _root(reading)
    _, _, axes = np.linalg.svd((cells - mean) @ root, full_matrices=False)
    weight = np.ascontiguousarray(axes[:channels] @ root, np.float32)
    coordinates = (cells - mean) @ weight.T
    low, high = 1e-3, float(np.abs(coordinates).max()) + 1e-3
    for _ in range(24):
        step = float(np.sqrt(low * high))
        if mean_entropy(np.clip(np.rint(coordinates / step), -CLIP, CLIP)) > bits:
            low = step
        else:
            high = step
    return Projection(weight, mean.astype(np.float32), high)


def _root(metric: Float32Array) -> NDArray[np.float64]:
    """The symmetric square root of a metric, scaled to mean eigenvalue 1."""
    values, vectors = np.linalg.eigh(metric.astype(np.float64))
    values = np.maximum(values, 0)
    return np.asarray((vectors * np.sqrt(values / max(float(values.mean()), 1e-12))) @ vectors.T)


def mean_entropy(codes: Float32Array) -> float:
    """Mean over channels of the empirical entropy of `codes` (n, K), in bits a symbol."""
    total = 0.0
    for channel in codes.T:
        share = np.bincount((channel + CLIP).astype(np.int64), minlength=2 * CLIP + 1) / len(channel)
        share = share[share > 0]
        total -= float((share * np.log2(share)).sum())
    return float(total / codes.shape[1])
