"""What is kept between the steps: tokens of heard sounds, weights, measured answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fusion.model.build import FusionModel
from fusion.simulation.commands import Command
from fusion.training.sounds import HeardTable


def save_heard(path: Path, table: HeardTable) -> None:
    """Write `path`.safetensors and .json."""
    save_file({"tokens": table.tokens, "positions": table.positions}, path.with_suffix(".safetensors"))
    said = [[command.text, command.intent] for command in table.commands]
    path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")


def load_heard(path: Path) -> HeardTable:
    """What `save_heard` wrote."""
    tensors = load_file(path.with_suffix(".safetensors"))
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return HeardTable(tensors["tokens"], tensors["positions"], tuple(Command(*pair, 0) for pair in said))


def save_weights(path: Path, model: FusionModel, facts: dict[str, str]) -> None:
    """The weights as float16, without the second names of shared position encodings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in model.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(_once(tensors), part, facts)
    part.replace(path)


def _once(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the second names of shared position encodings."""
    return {k: v for k, v in tensors.items() if not k.startswith(("fuser.queries.ray.", "fuser.queries.plane."))}


def load_weights(model: FusionModel, path: Path) -> None:
    """Put what `save_weights` wrote into `model`."""
    tensors = load_file(path)
    own = model.state_dict()
    lacking = set(_once(own)) - set(tensors)
    assert not lacking, f"{path} lacks {sorted(lacking)[:3]}"
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)


def weights_path(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    """Where an arm's weights are kept."""
    folder: Path = arguments.out / "weights"
    return folder / f"{name}-{seed}.safetensors"


def measured_path(arguments: argparse.Namespace, name: str, seed: int, case: str) -> Path:
    """Where an arm's answers in a case are kept."""
    return Path(arguments.out / "measured" / f"{name}-{seed}-{case.replace(' ', '_')}.npz")
