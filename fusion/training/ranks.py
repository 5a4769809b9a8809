"""Training in several processes at once, as `torchrun` starts them: who is there, who does what, what all of them sum.

Every process holds the whole model and learns from its own share of each step's frames; gradients are averaged, so
that all take the same step. The first process alone writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fusion.errors import ConfigError, UnavailableError
from fusion.task import Task

_TIMEOUT = timedelta(minutes=10)
"""A process that says nothing for so long is lost."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is `rank` of `count`, and the one numbered `local` on its machine. Alone by default."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def place(self, device: str) -> str:
        """Where this process computes if the run computes on `device`: on `cuda`, each has a GPU of its own."""
        return f"cuda:{self.local}" if device == "cuda" and self.count > 1 else device

    def share(self, places: Sequence[int]) -> list[int]:
        """This process's part of one step's `places`; of fewer places than processes some are taken twice."""
        dealt = np.resize(np.asarray(places), max(len(places), self.count))
        return [int(place) for place in dealt[self.rank :: self.count]]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all processes' `values`, of one shape everywhere, without gradient."""
        total = values.detach().clone()
        if self.count > 1:
            distributed.all_reduce(total)
        return total

    def every(self, value: float, device: str) -> list[float]:
        """Every process's `value`, by rank; `device` is this process's."""
        held = torch.zeros(self.count, dtype=torch.float64, device=device)
        held[self.rank] = value
        return [float(one) for one in self.sum(held)]

    def averaging(self, module: nn.Module) -> nn.Module:
        """`module`, its gradients after a backward pass the mean of all processes'.

        What it returns must be what is learnt from: weights that had no part in it, as those of a sensor that is not
        there, count as zero. Running statistics are the first process's.
        """
        return DistributedDataParallel(module, find_unused_parameters=True) if self.count > 1 else module


class SharedNorms:
    """The batch norms of a model on a GPU, which see the batch of all processes; others are left as they are.

    Synchronizing is part of the forward and the backward pass. Where processes have different sensors they run
    different parts of the model, and would wait for one another for ever: in such a step each norm sees its own batch.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, device: str) -> None:
        self._norms: list[nn.SyncBatchNorm] = []
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        subgroups: Any = distributed.new_subgroups
        if ranks.count > 1 and torch.device(device).type == "cuda":
            convert(model)
            self._norms = [part for part in model.modules() if isinstance(part, nn.SyncBatchNorm)]
            self._alone, _ = subgroups(group_size=1)

    def share(self, *, together: bool) -> None:
        """Whether the next step's norms see the batch of all processes; the same in each of them."""
        for norm in self._norms:
            norm.process_group = None if together else self._alone


def launched() -> int:
    """How many processes `torchrun`, or whatever sets its variables, has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """The processes of this run, which compute on `device`: found through the environment, by gloo on a CPU and NCCL
    on GPUs; one process alone without such an environment.

    Raises `ConfigError` for a GPU that is not there, and `UnavailableError` when another process is lost meanwhile.
    """
    several = launched() > 1
    ranks = Ranks(int(os.environ["RANK"]), launched(), int(os.environ.get("LOCAL_RANK", "0"))) if several else Ranks()
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        _take_gpu(ranks, device)
    if not several:
        yield ranks
        return
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
        yield ranks
    except (RuntimeError, ValueError) as error:
        if not _lost(error):
            raise
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise UnavailableError(
            f"process {ranks.rank} of {ranks.count} cannot reach the others ({reason}); see what they said, then go on "
            "with --resume"
        ) from None
    distributed.destroy_process_group()


def _take_gpu(ranks: Ranks, device: str) -> None:
    found = torch.cuda.device_count()
    index = torch.device(ranks.place(device)).index or 0
    if index >= found:
        raise ConfigError(f"process {ranks.local} of this machine has no GPU: there are {found}; start fewer processes")
    torch.cuda.set_device(index)


def _lost(error: Exception) -> bool:
    """Whether it tells of the processes, not of the work: gloo has no class of its own for that."""
    return isinstance(error, distributed.DistError) or any(name in str(error) for name in ("gloo", "MASTER_ADDR"))


def refuse_several(model: str, task: Task) -> None:
    """Raises `ConfigError` when torchrun started several processes for a model that learns in one."""
    if launched() > 1:
        raise ConfigError(
            f"{launched()} processes for the {model} of task {task.name}: only the fusion model of a driving task "
            "learns in several; start one, without torchrun"
        )
