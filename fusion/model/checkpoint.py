"""Fusion models on disk: `fusion.safetensors` and `fusion.json`; training states beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusion.errors import ModelError
from fusion.model.build import FusionModel, build_fusion
from fusion.preparation.fusion_spec import SPEC_NAME, FusionSpec

WEIGHTS_NAME = "fusion.safetensors"
STATE_NAME = "training"


def save_fusion(folder: Path, model: FusionModel, *, half: bool = False) -> None:
    """Write the model into `folder`; `half` stores its floats as float16."""
    model.spec.save(folder)
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in _unshared(model).items()
    }
    _write(folder / WEIGHTS_NAME, tensors)


def load_fusion(folder: Path) -> FusionModel:
    """The model in `folder`, in evaluation mode. Raises `ModelError` naming the file that is missing or wrong."""
    model = build_fusion(FusionSpec.load(folder))
    tensors = _read(folder / WEIGHTS_NAME)
    own = _unshared(model)
    if set(tensors) != set(own) or any(tensors[name].shape != own[name].shape for name in own):
        raise ModelError(f"{folder / WEIGHTS_NAME}: its weights do not fit {folder / SPEC_NAME}; train or export again")
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()}, strict=False)
    return model.eval()


@torch.no_grad()
def take_over(model: FusionModel, old: FusionModel) -> float:
    """Copy into `model` every weight of `old` that has its name and shape; returns the share of `model` it fills.

    Raises `ModelError` when the two do not listen for the same words: their ears would not fit.
    """
    if model.spec.words != old.spec.words:
        raise ModelError("the model to start from listens for other words; train this one from nothing")
    given, filled, total = _unshared(old), 0, 0
    for name, value in _unshared(model).items():
        total += value.numel()
        if name in given and given[name].shape == value.shape:
            value.copy_(given[name])
            filled += value.numel()
    return filled / max(1, total)


def round_to_half(model: FusionModel) -> FusionModel:
    """Round every weight to float16's grid, in place, so that graphs stored in float16 compute the same numbers."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half().float())
    return model


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """Where a run stands: finished `epoch`s and `step`s, and every tensor of model, average and optimizer."""

    epoch: int
    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors called `name.KEY`, by key."""
        return {key.removeprefix(f"{name}."): v for key, v in self.tensors.items() if key.startswith(f"{name}.")}


def save_state(folder: Path, state: TrainingState) -> None:
    """Replace the state in `folder`; a kill leaves the old one or the new one, never half of either."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {"state": json.dumps({"epoch": state.epoch, "step": state.step, "facts": dict(state.facts)})}
    _write(folder / f"{STATE_NAME}.safetensors", dict(state.tensors), header)


def load_state(folder: Path) -> TrainingState | None:
    """The saved state, None when there is none."""
    path = folder / f"{STATE_NAME}.safetensors"
    if not path.is_file():
        return None
    from safetensors import safe_open

    tensors = _read(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get("state", "{}"))
    if not {"epoch", "step", "facts"} <= set(header):
        raise ModelError(f"{path}: not a training state; delete it to start again")
    return TrainingState(header["epoch"], header["step"], tensors, header["facts"])


def _unshared(model: FusionModel) -> dict[str, Tensor]:
    """The state without the queries' names for the position encodings that encoders own."""
    owned = {"fuser.queries.ray.": "camera" in model.encoders, "fuser.queries.plane.": "lidar" in model.encoders}
    left_out = tuple(prefix for prefix, shared in owned.items() if shared)
    return {name: value for name, value in model.state_dict().items() if not name.startswith(left_out)}


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata)
    part.replace(path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); train or export the model again") from None
    return tensors
