"""Named sizes: the only place where the fusion model's hyper-parameters stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fusion.errors import ConfigError
from fusion.preparation.fusion_spec import BEV, BevSpec, FusionSpec
from fusion.preparation.items import MAX_ITEMS, POINT_SCALE
from fusion.preparation.pillars import PillarGrid
from fusion.task import Area, Task
from fusion.types import Modality


@dataclass(frozen=True, slots=True)
class Size:
    """`cells` pillars at most along the longest side of the ground, none under `cell` metres; `image` the width of a
    camera's input in pixels and `network` its backbone, where there is no trunk; `points` a sweep; `speech` the ears.
    """

    width: int
    heads: int
    layers: int
    hidden: int
    latents: int
    cells: int
    cell: float
    points: int
    image: int
    network: str
    bev: BevSpec
    lidar: Mapping[str, Any] = field(default_factory=dict)
    speech: Mapping[str, Any] = field(default_factory=dict)
    token_stride: int = 2


SIZES: Mapping[str, Size] = {
    "small": Size(96, 4, 3, 256, 8, 128, 0.4, 16384, 704, "resnet18", BevSpec()),
    "base": Size(
        192,
        6,
        4,
        512,
        16,
        256,
        0.2,
        65536,
        704,
        "convnext_tiny",
        BevSpec(channels=96, peaks=128),
        lidar={"channels": (64, 128, 192)},
        token_stride=4,
    ),
    "large": Size(
        256,
        8,
        6,
        1024,
        32,
        512,
        0.2,
        300_000,
        800,
        "swin_t",
        BevSpec(channels=128, peaks=300),
        lidar={"channels": (64, 128, 256)},
        speech={"encoder": "speech-conformer", "layers": 4, "hidden": 1024, "kernel": 15},
        token_stride=4,
    ),
}
"""`small` is for a CPU, `large` for a GPU."""


def find_size(name: str) -> Size:
    """The size called `name`. Raises `ConfigError` that lists the known ones."""
    if name not in SIZES:
        raise ConfigError(f"no size named {name!r}; known: {', '.join(SIZES)}")
    return SIZES[name]


def items_spec(
    task: Task,
    *,
    profile: str,
    image_size: tuple[int, int],
    steps: tuple[Sequence[float], Sequence[float]],
    gains: tuple[float, float],
    words: Sequence[str],
    size: str = "small",
) -> FusionSpec:
    """A model that fuses a trunk's detections; `image_size` is (width, height) of the trunk's input."""
    found = find_size(size)
    return FusionSpec(
        name=size,
        task=task.name,
        profile=profile,
        classes=task.classes,
        conditions=task.conditions,
        intents=task.intents,
        words=tuple(words),
        image_width=image_size[0],
        image_height=image_size[1],
        steps=(tuple(map(float, steps[0])), tuple(map(float, steps[1]))),
        gains=gains,
        width=found.width,
        heads=found.heads,
        layers=found.layers,
        hidden=found.hidden,
        queries=MAX_ITEMS,
        latents=found.latents,
        grid=PillarGrid(),
        dropout=0.05,
        point_scale=POINT_SCALE,
        standing=True,
        told_conditions=True,
        referring=True,
        encoders=_encoders(speech=found.speech),
    )


def bev_spec(task: Task, size: str, *, image_height: int = 0, sweeps: bool = False) -> FusionSpec:
    """A model for any number of cameras without a trunk, and LiDAR: what a driving task takes.

    `image_height` is that of a camera's input, by default as the task's widest camera has it, in steps of 32; with
    `sweeps` points have a time.
    """
    found = find_size(size)
    cameras = [task.sensors[name] for name in task.of_modality(Modality.CAMERA)]
    if not image_height and cameras:
        widest = max(cameras, key=lambda camera: camera.width)
        image_height = max(32, round(found.image * widest.height / max(1, widest.width) / 32) * 32)
    sensors = sensor_counts(task)
    encoders = _encoders(
        camera={"encoder": "backbone", "network": found.network},
        lidar={**found.lidar, "sweeps": sweeps},
        speech=found.speech,
    )
    return FusionSpec(
        name=size,
        task=task.name,
        profile="",
        classes=task.classes,
        conditions=task.conditions,
        intents=task.intents,
        words=(),
        image_width=found.image,
        image_height=image_height,
        steps=((), ()),
        gains=(1.0, 1.0),
        width=found.width,
        heads=found.heads,
        layers=found.layers,
        hidden=found.hidden,
        queries=0,
        latents=found.latents,
        grid=ground_grid(task, found),
        points=found.points,
        dropout=0.05,
        layout=BEV,
        sensors=sensors,
        encoders={name: options for name, options in encoders.items() if name in sensors},
        bev=bev_of(task, found),
    )


def sensor_counts(task: Task) -> dict[str, int]:
    """How many sensors of each modality a task has, in the memory's order; one without any is left out."""
    counts: dict[str, int] = {}
    for sensor in task.sensors.values():
        counts[sensor.modality.value] = counts.get(sensor.modality.value, 0) + 1
    return {name: counts[name] for name in ("camera", "lidar", "speech") if name in counts}


def ground_grid(task: Task, size: Size) -> PillarGrid:
    """The task's ground in square cells, as many as whole queries make."""
    area = _area(task)
    length, width = area.x[1] - area.x[0], area.y[1] - area.y[0]
    cell = max(size.cell, max(length, width) / size.cells)
    whole = size.token_stride * size.bev.stride
    rows, columns = (max(1, math.ceil(side / cell / whole - 1e-6)) * whole for side in (length, width))
    return PillarGrid(x=area.x[0], y=area.y[0], cell=cell, rows=rows, columns=columns, stride=size.token_stride)


def bev_of(task: Task, size: Size) -> BevSpec:
    """The size's queries, looking into cameras at four heights of the task's ground."""
    low, high = _area(task).z
    return replace(size.bev, heights=tuple(low + (high - low) * (i + 0.5) / 4 for i in range(4)))


def tiny_spec(task: Task, profile: str = "0" * 64) -> FusionSpec:
    """A size for tests: the same parts, a fraction of the work; pictures of 128 x 64."""
    spec = items_spec(
        task,
        profile=profile,
        image_size=(128, 64),
        steps=([0.25] * 4, [0.25] * 4),
        gains=(1.0, 1.0),
        words=("drum", "inspect", "left", "right", "stop"),
    )
    grid = PillarGrid(x=0.0, y=-8.0, cell=2.0, rows=8, columns=8)
    return replace(spec, name="tiny", width=32, heads=2, layers=2, hidden=48, latents=3, grid=grid, points=512)


def _area(task: Task) -> Area:
    if task.area is None:
        raise ConfigError(
            f"task {task.name} says nothing about its ground; give it an [area] with x, y and z in metres"
        )
    return task.area


def _encoders(**given: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {modality: dict(options) for modality, options in given.items() if options}
