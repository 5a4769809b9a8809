"""Temperatures in a file of their own, for reviewers without a folder of theirs: `fusion calibrate reviewer` fits them.

The file names the reviewer by its weights or settings, the task and its questions, and is refused for any other. Where
the weights lie, or are called, does not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ConfigError, ModelError
from fusion.review.folder import read_temperatures
from fusion.task import Task
from fusion.types import Float64Array

FORMAT = 1
_SHOWN = 8
_MARK = re.compile(r"\+t[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True)
class Temperatures:
    """What logits are divided by, slot by slot; `digest` is the file's hex sha-256, empty where there is none."""

    values: tuple[float, ...]
    digest: str = ""

    @classmethod
    def none(cls, task: Task) -> Temperatures:
        """Scores as they are."""
        return cls((1.0,) * len(task.slots))

    @property
    def mark(self) -> str:
        """What a reviewer's name ends with, as its probabilities are others: `+t` and eight digits, or nothing."""
        return f"+t{self.digest[:_SHOWN]}" if self.digest else ""

    def apply(self, tables: Sequence[NDArray[np.floating]]) -> list[Float64Array]:
        """Tables (B, options) of probabilities, tempered slot by slot; without a file as they are."""
        if not self.digest:
            return [np.asarray(table, np.float64) for table in tables]
        return [temper(table, value) for table, value in zip(tables, self.values, strict=True)]


def is_tempered(reviewer: str) -> bool:
    """Whether a reviewer of this name was given a file of temperatures."""
    return _MARK.search(reviewer) is not None


def temper(probabilities: NDArray[np.floating], temperature: float) -> Float64Array:
    """What softmax(logits / temperature) gives, from the probabilities at temperature 1; (N, options)."""
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-30)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    tempered: Float64Array = powers / powers.sum(1, keepdims=True)
    return tempered


def write_temperatures(
    path: Path, task: Task, reviewer: str, temperatures: Mapping[str, float], facts: Mapping[str, Any]
) -> None:
    """Write the file of the reviewer called `reviewer` when it has none; `facts` say on what they were fitted."""
    told = {"format": FORMAT, "reviewer": reviewer, "task": task.name, "prompt_sha256": task.prompt_sha256}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**told, "temperatures": dict(temperatures), **facts}, indent=1) + "\n", "utf-8")


def check_writable(path: Path) -> None:
    """Raise `ConfigError` where no file can be written there; found out before a reviewer is asked for long."""
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another --out") from None
    if new:
        path.unlink()


def load_temperatures(path: str, task: Task, reviewer: str) -> Temperatures:
    """The file's temperatures, none without a `path`. Raises `ModelError` where it is of another reviewer or task."""
    if not path:
        return Temperatures.none(task)
    told = read_temperatures(Path(path), task)
    wanted = {"format": FORMAT, "reviewer": reviewer, "task": task.name, "prompt_sha256": task.prompt_sha256}
    for name, value in wanted.items():
        written = told.described.get(name)
        same = _weights(written) == _weights(reviewer) if name == "reviewer" else written == value
        if not same:
            raise ModelError(
                f"{path}: was fitted for {name} {written!r}, not {value!r}; fit it anew: fusion calibrate reviewer"
            )
    return Temperatures(told.values, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def _weights(reviewer: object) -> tuple[str, str]:
    """The scheme of a reviewer's name and its fingerprint: all of it but what its weights are called."""
    scheme, _, rest = str(reviewer).partition(":")
    return scheme, rest.rpartition("@")[2]
