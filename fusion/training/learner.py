"""A fusion model that is learning: its weights, their moving average, and what the optimizer remembers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from fusion.errors import ModelError
from fusion.model.checkpoint import TrainingState
from fusion.training.optimisation import adamw, optimizer_tensors, restore_optimizer, take_step

M = TypeVar("M", bound=nn.Module)


class WeightAverage(Generic[M]):
    """An exponential moving average of a model's weights and running statistics; counters are copied.

    `model` is the average: a copy in evaluation mode, without gradients, on the device of the original. `decay` in
    0..1 is the share of the old average that a step keeps; the first steps keep less, because there is little to keep.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(requires_grad=False), decay

    def begin(self, model: M) -> None:
        """The average is what `model` is now."""
        self.model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def follow(self, model: M, step: int) -> None:
        """Move towards `model`, which has taken `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, new in zip(_values(self.model), _values(model), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)


class Learner(Generic[M]):
    """`model`, its `average` (see `WeightAverage`) and an AdamW `optimizer`, after `step` steps.

    Gradients are clipped to a norm of `clip`. `model` is on its device already.
    """

    def __init__(self, model: M, *, learning_rate: float, weight_decay: float, ema: float, clip: float) -> None:
        self.model, self.clip, self.step = model, clip, 0
        self.average = WeightAverage(model, ema)
        self.optimizer = adamw(model, learning_rate, weight_decay)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def learn(self, loss: Tensor) -> None:
        """One step down `loss` (), and the average after it."""
        take_step(self.optimizer, self.model, loss, self.clip)
        self.step += 1
        self.average.follow(self.model, self.step)

    def state(self, epoch: int, facts: Mapping[str, Any]) -> TrainingState:
        """Everything `restore` needs, copied to the CPU; `facts` must be JSON."""
        parts = {"model": self.model.state_dict(), "average": self.average.model.state_dict()}
        parts["optimizer"] = optimizer_tensors(self.optimizer)
        tensors = {
            f"{part}.{name}": v.detach().cpu().clone() for part, held in parts.items() for name, v in held.items()
        }
        return TrainingState(epoch, self.step, tensors, facts)

    def restore(self, state: TrainingState, folder: Path) -> None:
        """Go on, bit for bit, from a state read in `folder`. Raises `ModelError` for another model's or build's."""
        try:
            self.model.load_state_dict(state.part("model"))
            self.average.model.load_state_dict(state.part("average"))
            restore_optimizer(self.optimizer, state.part("optimizer"))
        except (RuntimeError, ValueError, KeyError):
            raise ModelError(f"{folder}: a state of another model or build; train without --resume") from None
        self.step = state.step


def _values(model: nn.Module) -> Iterator[Tensor]:
    """Each weight and buffer once, however many names it has."""
    return chain(model.parameters(), model.buffers())
