"""The ultralytics trainer with the network, and only the network, in bfloat16.

ultralytics offers bfloat16 on CUDA alone, and tests it with a network it downloads. Losses, gradients and weights stay
in float32.
"""

from __future__ import annotations

import copyreg
from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import RANK

from fusion.training.detection.architectures import Network, class_names, one_headed


class LowPrecisionDetectionModel(DetectionModel):  # type: ignore[misc]
    """A detection model whose training pass runs under autocast. Copies and checkpoints of it are plain models."""

    def _predict_once(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            return super()._predict_once(x, *args, **kwargs)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            outputs = super()._predict_once(x, *args, **kwargs)
        return to_float(outputs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return copyreg.__newobj__, (DetectionModel,), self.__dict__  # type: ignore[attr-defined]


class LowPrecisionTrainer(DetectionTrainer):  # type: ignore[misc]
    """`DetectionTrainer` of networks with one head, in bfloat16.

    A network that is given and knows the same classes is trained as it is, whatever its widths; of one with other
    classes what fits is taken over. `transpose` is the share of training pictures whose axes are swapped.
    """

    def __init__(self, *arguments: Any, transpose: float = 0.0, **options: Any) -> None:
        self.transpose = transpose
        super().__init__(*arguments, **options)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch on the device, pictures (B, 3, H, W) in 0..1, some of them transposed."""
        batch = super().preprocess_batch(batch)
        return transposed(batch, torch.rand(len(batch["img"])) < self.transpose) if self.transpose else batch

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> DetectionModel:
        """The network to be trained: `weights` itself, or one of `cfg` that begins with what fits of `weights`."""
        names = tuple(str(self.data["names"][i]) for i in range(self.data["nc"]))
        if weights is not None and class_names(weights) == names:
            return _adopted(weights)
        network = self.set_model_names_for_load(
            DetectionModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1)
        )
        if weights is not None:
            network.load(weights)
        return _adopted(network)


def _adopted(network: Network) -> Network:
    """The network, ready to be trained in bfloat16."""
    network.__class__ = LowPrecisionDetectionModel
    network.criterion = None
    for parameter in network.parameters():
        parameter.requires_grad = True
    return one_headed(network).train()


def transposed(batch: dict[str, Any], chosen: torch.Tensor) -> dict[str, Any]:
    """The batch with width and height swapped in the pictures `chosen` (B,), and in their boxes.

    `img` (B, 3, S, S), `bboxes` (N, 4) as centre x, y, width, height, `batch_idx` (N,) the picture of each box.
    """
    pictures, boxes = batch["img"].clone(), batch["bboxes"].clone()
    chosen = chosen.to(pictures.device)
    pictures[chosen] = pictures[chosen].transpose(2, 3)
    theirs = chosen[batch["batch_idx"].long()]
    boxes[theirs] = boxes[theirs][:, [1, 0, 3, 2]]
    return batch | {"img": pictures, "bboxes": boxes}


def to_float(value: Any) -> Any:
    """The same nest of tuples, lists and dictionaries with every tensor as float32."""
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: to_float(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_float(part) for part in value)
    return value
