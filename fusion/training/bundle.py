"""Writes `fusion/weights/<task>/`: what both nodes load, with its model card and digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from fusion.codec import Level, Profile, fit_frequencies
from fusion.preparation import letterbox, to_input
from fusion.task import Task
from fusion.training.onnx_file import export_onnx
from fusion.training.trunk import CLIP, Detector, Projection, Trunk, fit_projection, gather_cells, load_detector
from fusion.types import Float32Array, Modality, UInt8Array

CHANNELS = (24, 32, 32)
"""Kept channels a level, strides 8, 16 and 32."""
BITS = (1.6, 1.8, 1.8)
"""Bits a symbol each level's step is chosen for, on the cells the calibration images would send."""
OUTPUTS = ("predictions", "p3", "p4", "p5")


def bundle_folder(task: Task, weights: Path | None) -> Path:
    """Where a task's bundle lies: `weights`, or the package's own."""
    return weights or Path(str(resources.files("fusion").joinpath("weights", task.name)))


def export_detector(weights: Path, task: Task, images: Sequence[UInt8Array], folder: Path, *, seed: int = 7) -> Profile:
    """Freeze `weights` (an ultralytics `.pt`) into `folder`: `detector.onnx` and the codec profile.

    `images` are calibration pictures (H, W, 3) uint8 RGB from the training split.
    """
    camera = task.sensors[task.of_modality(Modality.CAMERA)[0]]
    detector = load_detector(weights, task, camera.width, camera.height)
    inputs = [to_input(letterbox(image, camera.width, camera.height)[0]) for image in images]
    cells = gather_cells(detector, inputs, 200, seed)
    projections = [
        fit_projection(c, k, b, detector.reading(level))
        for level, (c, k, b) in enumerate(zip(cells, CHANNELS, BITS, strict=True))
    ]
    graph = export_onnx(
        Trunk(detector, projections),
        (torch.zeros(1, 3, camera.height, camera.width),),
        folder / "detector.onnx",
        input_names=["images"],
        output_names=[*OUTPUTS, *(("conditions",) if len(detector.conditions) else ())],
    )
    profile = _profile(task, detector, projections, cells, graph)
    profile.save(folder)
    return profile


def _profile(
    task: Task, detector: Detector, projections: Sequence[Projection], cells: Iterable[Float32Array], graph: Path
) -> Profile:
    camera = task.sensors[task.of_modality(Modality.CAMERA)[0]]
    levels = []
    for stride, projection, vectors in zip(detector.strides, projections, cells, strict=True):
        codes = np.clip(np.rint((vectors - projection.mean) @ projection.weight.T / projection.step), -CLIP, CLIP)
        steps = np.full(len(projection.weight), projection.step, np.float32)
        levels.append(Level(stride, len(steps), steps, CLIP, fit_frequencies(codes.astype(np.int8), CLIP)))
    return Profile.create(
        task=task.name,
        image_width=camera.width,
        image_height=camera.height,
        levels=tuple(levels),
        trunk_sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
    )


def write_card(folder: Path, title: str, facts: dict[str, object]) -> None:
    """`card.md`: what a model was made of and what it measured, for people; `card.json`, the same for programs."""
    lines = [f"# {title}", ""]
    for section, content in facts.items():
        lines += [f"## {section}", ""]
        if isinstance(content, dict):
            lines += ["| what | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in content.items())]
        else:
            lines.append(str(content))
        lines.append("")
    (folder / "card.md").write_text("\n".join(lines), encoding="utf-8")
    (folder / "card.json").write_text(json.dumps({"title": title, **facts}, indent=1) + "\n", encoding="utf-8")


def add_to_card(folder: Path, facts: dict[str, object]) -> None:
    """Add sections to a bundle's card, replacing those of the same name."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    title = card.pop("title")
    write_card(folder, title, card | facts)


def write_digests(folder: Path) -> None:
    """`SHA256SUMS` over every file of the bundle, in `sha256sum`'s form."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}" for p in files]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
