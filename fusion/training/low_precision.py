"""The ultralytics trainer with the network, and only the network, in bfloat16 on a CPU.

ultralytics offers bfloat16 on CUDA alone. Losses, gradients and weights stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import RANK


class LowPrecisionDetectionModel(DetectionModel):  # type: ignore[misc]
    """A detection model whose training pass runs under CPU autocast."""

    def _predict_once(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            return super()._predict_once(x, *args, **kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = super()._predict_once(x, *args, **kwargs)
        return _to_float(outputs)


class LowPrecisionTrainer(DetectionTrainer):  # type: ignore[misc]
    """`DetectionTrainer` that builds a `LowPrecisionDetectionModel`."""

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> DetectionModel:
        """The model of `cfg`, with `weights` loaded when given."""
        model = LowPrecisionDetectionModel(
            cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1
        )
        if weights:
            model.load(weights)
        return model


def _to_float(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _to_float(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_float(part) for part in value)
    return value
