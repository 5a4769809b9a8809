"""Which GPUs of this machine each replica has."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from fusion.errors import ModelError

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")
_FILE = re.compile(r"nvidia\d+")
_SMALL = 1e-6


def gpus_here() -> tuple[str, ...]:
    """GPUs as CUDA calls them: those of `CUDA_VISIBLE_DEVICES` where it is set, else all that this machine shows.

    CUDA counts what it sees from 0, also in a container that was given the machine's last.
    """
    told = os.environ.get(VISIBLE)
    if told is not None:
        return tuple(name for name in (part.strip() for part in told.split(",")) if name not in ("", "-1"))
    count = sum(_FILE.fullmatch(path.name) is not None for path in DEVICES.glob("nvidia*"))
    return tuple(map(str, range(count)))


class Gpus:
    """What is left of each GPU, for all reviewers of this process."""

    _known: ClassVar[dict[tuple[str, ...], Gpus]] = {}

    def __init__(self, names: Sequence[str]) -> None:
        self._left = dict.fromkeys(names, 1.0)
        self._lock = threading.Lock()

    @classmethod
    def here(cls) -> Self:
        """Those of this machine; the same object for everybody."""
        names = gpus_here()
        found = cls._known.setdefault(names, cls(names))
        assert isinstance(found, cls)
        return found

    def reserve(self, each: float, replicas: int) -> list[tuple[str, ...]]:
        """GPUs for so many replicas, a share of one or `each` whole ones, where most is left first.

        Raises `ModelError` where that is more than is left; nothing is reserved then.
        """
        with self._lock:
            left, slots = dict(self._left), list[tuple[str, ...]]()
            for _ in range(replicas):
                slots.append(_most_free(left, each))
                if len(slots[-1]) < each:
                    raise ModelError(
                        f"{each * replicas:g} GPUs are asked for and {self._told()}; gpus=0 computes without"
                    )
                for name in slots[-1]:
                    left[name] -= min(1.0, each)
            self._left = left
            return slots

    def release(self, each: float, slots: Sequence[Sequence[str]]) -> None:
        """What `reserve` gave is free again."""
        with self._lock:
            for name in (name for slot in slots for name in slot):
                self._left[name] += min(1.0, each)

    def _told(self) -> str:
        taken = len(self._left) - sum(self._left.values())
        words = f"{len(self._left)} are there"
        return f"{words}, of which other reviewers have {taken:g}" if taken > _SMALL else words


def _most_free(left: Mapping[str, float], each: float) -> tuple[str, ...]:
    """So many GPUs as one replica has, or as there are; none where it has none."""
    free = sorted((name for name in left if left[name] >= min(1.0, each) - _SMALL), key=lambda name: -left[name])
    return tuple(free[: max(1, round(each))]) if each else ()
