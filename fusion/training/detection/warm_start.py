"""Begins a detector's training where a bundled graph ended: no working file of the trainer is kept or shipped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from fusion.codec import Profile
from fusion.errors import ConfigError, ModelError
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.architectures import NAMES, Network, new_network
from fusion.training.detection.kinds import class_of, some, unfit

_HALF, _QUANTISED = ".half", "_quantized"


def read_weights(graph: Path) -> dict[str, Tensor]:
    """The float32 weights of an exported detector by the trainer's own names: `model.4.cv1.conv.weight`.

    Raises `ModelError` when `graph` is no detector this project exported.
    """
    if not graph.is_file():
        raise ModelError(f"{graph}: no such detector to start from")
    tensors = {}
    last = -1
    for initializer in onnx.load(str(graph)).graph.initializer:
        name = initializer.name.removesuffix(_HALF)
        if name.startswith("detector.layers."):
            last = max(last, int(name.split(".")[2]))
            tensors[name.replace("detector.layers.", "model.", 1)] = initializer
        elif name.startswith("detector.head."):
            tensors[name] = initializer
    if any(name.endswith(_QUANTISED) for name in tensors):
        raise ModelError(f"{graph}: its weights are quantised; start from the float32 bundle it was made from")
    if last < 0:
        raise ModelError(f"{graph}: not a detector of this project; its weights have other names")
    head = f"model.{last + 1}."
    return {
        name.replace("detector.head.", head, 1): torch.from_numpy(numpy_helper.to_array(value).astype(np.float32))
        for name, value in tensors.items()
    }


def bundle_network(folder: Path, names: Sequence[str]) -> Network:
    """The detector of the bundle in `folder` as a network of the trainer's, batch norms folded, with classes `names`.

    Its architecture is what the card tells, and so are its classes. Raises `ModelError` when there is no card, or the
    graph is no such network, or knows other classes.
    """
    card = folder / "card.json"
    try:
        told = json.loads(card.read_text(encoding="utf-8"))
        architecture = str(told["Recipe"]["architecture"])
        architecture = architecture.removesuffix(".yaml")  # as earlier builds wrote it
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{card}: does not tell the detector's architecture ({error!r}); give a checkpoint") from None
    if architecture not in NAMES:
        raise ModelError(f"{card}: tells of no architecture that can be built ({architecture!r}); give a checkpoint")
    _check_classes(folder, told.get("Classes"), names)
    network = new_network(architecture, len(names)).fuse(verbose=False)
    weights = read_weights(folder / GRAPH_NAME)
    own = network.state_dict()
    if strange := sorted(name for name, value in weights.items() if name not in own or own[name].shape != value.shape):
        raise ModelError(
            f"{folder}: no {architecture} of {len(names)} classes; {strange[0]} is another; give a checkpoint"
        )
    network.load_state_dict(own | weights)
    network.names = dict(enumerate(names))
    return network


def _check_classes(folder: Path, told: Any, names: Sequence[str]) -> None:
    """Raise `ModelError` unless the detector in `folder` knows `names` in their order. `told` is what its card says of
    them, None where it was written before cards did: then those of its task count.
    """
    if isinstance(told, dict):
        kinds = [str(name) for name in told.values()]
        why = "" if kinds == list(names) else f"it knows {some(kinds)}"
    else:
        task = Profile.load(folder).task
        try:
            known = Task.load(task)
        except ConfigError:
            raise ModelError(
                f"{folder / 'card.json'}: does not tell the detector's classes, and its task {task!r} comes with no "
                "bundle; export it again, or give a checkpoint"
            ) from None
        why = unfit(names, known.classes, known.conditions)
        why = why and f"it knows the classes of task {task}: {some(known.classes)}"
    if why:
        raise ModelError(f"{folder}: {why}; the data has {some(names)}, and so, in this order, must the detector")


@torch.no_grad()
def start_from(
    network: nn.Module, weights: dict[str, Tensor], old_names: Sequence[str], new_names: Sequence[str]
) -> None:
    """Put folded `weights` into a fresh ultralytics `network`; batch norms are still to be settled.

    A class of `new_names` begins as the class of `old_names` it belongs to (see `fusion.training.detection.kinds`), as
    likely as its siblings together. Raises `ModelError` when the architectures differ.
    """
    own = dict(network.named_parameters())
    for name, value in weights.items():
        if name not in own:
            if name.endswith("conv.bias"):
                own[name.replace("conv.bias", "bn.bias")].copy_(value)
                continue
            raise ModelError(f"this architecture has no {name}, which the one to start from has; train it from nothing")
        own[name].copy_(_widened(value, own[name], old_names, new_names))


def _widened(value: Tensor, wanted: Tensor, old_names: Sequence[str], new_names: Sequence[str]) -> Tensor:
    if value.shape == wanted.shape:
        return value
    if len(value) != len(old_names) or len(wanted) != len(new_names):
        raise ModelError(f"weights {tuple(value.shape)} do not fit {tuple(wanted.shape)}; train it from nothing")
    if strange := sorted({class_of(name) for name in new_names} - set(old_names)):
        raise ModelError(f"the one to start from has no class {strange[0]}; train it from nothing")
    owners = [old_names.index(class_of(name)) for name in new_names]
    grown = value[owners]
    if grown.ndim == 1:
        siblings = torch.tensor([owners.count(owner) for owner in owners], dtype=grown.dtype)
        grown = grown - siblings.log()
    return grown


@torch.no_grad()
def settle_batch_norms(network: nn.Module, pictures: Iterable[Tensor]) -> None:
    """Unfold the batch norms: one pass over `pictures` (one batch (B, 3, H, W)) measures what enters each norm, in
    order, and sets its scale and shift so that the network computes what the folded one did.
    """
    hooks = [
        module.register_forward_pre_hook(_settle) for module in network.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    was_training = network.training
    network.eval()
    try:
        for batch in pictures:
            network(batch)
            break
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)


def _settle(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    values = inputs[0].float()
    mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.add_(mean)
