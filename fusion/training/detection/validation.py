"""One row of a table of detectors: how large a checkpoint is and how well it does on the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import ModelError
from fusion.training.detection.architectures import Network, class_names, named, parameters
from fusion.training.detection.checkpoint import read_checkpoint
from fusion.training.detection.kinds import some
from fusion.training.detection.operations import multiply_adds
from fusion.training.detection.recipe import DetectorRecipe


def measure_checkpoint(weights: Path, data_yaml: Path, recipe: DetectorRecipe, scratch: Path) -> dict[str, Any]:
    """Parameters, bytes of the checkpoint, multiply-adds a picture, and mAP on the split `val` of `data_yaml`, in the
    trainer's own float32 network.

    `scratch` is a folder that ultralytics may write to. Raises `ModelError` for an unusable checkpoint.
    """
    from ultralytics import YOLO

    network = read_checkpoint(weights)
    row = {
        "architecture": named(network),
        "parameters": parameters(network),
        "multiply_adds": multiply_adds(network, recipe.image_size),
        "bytes": weights.stat().st_size,
    }
    found = YOLO(str(weights)).val(
        data=str(data_yaml),
        split="val",
        imgsz=recipe.image_size,
        batch=recipe.batch,
        device=recipe.device,
        workers=0,
        plots=False,
        verbose=False,
        project=str(scratch.absolute()),
        name="validation",
        exist_ok=True,
    )
    return row | {"map50": round(float(found.box.map50), 4), "map50_95": round(float(found.box.map), 4)}


def check_classes(network: Network, where: Path, data_yaml: Path) -> None:
    """Raise `ModelError` unless `network`, of the checkpoint `where`, knows the classes of the data in their order.

    What it finds is compared with what is there by number.
    """
    from ultralytics.utils import YAML

    names = YAML.load(data_yaml)["names"]
    wanted = tuple(str(names[number]) for number in sorted(names))
    if class_names(network) != wanted:
        raise ModelError(
            f"{where}: it knows {some(class_names(network))}; the data has {some(wanted)}, and so, in this order, must "
            "the checkpoint; train it on the data first: fusion train detector --start"
        )


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| detector | architecture | parameters | M multiply-adds | MB | mAP50 | mAP50-95 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        sizes = f"{row['parameters']:,} | {row['multiply_adds'] / 1e6:,.0f} | {row['bytes'] / 1e6:.2f}"
        lines.append(f"| {name} | {row['architecture']} | {sizes} | {row['map50']:.4f} | {row['map50_95']:.4f} |")
    return "\n".join(lines)
