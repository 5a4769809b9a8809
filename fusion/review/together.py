"""Which answers go together, so that a verdict never contradicts itself.

Slots are scored independently in one forward. What is answered is the most probable combination, taking the slots as
independent, among those that occur in the training truth: exact maximum a posteriori by enumeration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ModelError
from fusion.json_text import parse_json
from fusion.task import Task

TOGETHER = "together.json"
_FLOOR = 1e-9

Combinations = NDArray[np.int64]


def combinations_of(truth: NDArray[np.integer]) -> Combinations:
    """The different rows of `truth` (N, slots), option indices, as (M, slots) int64."""
    return np.unique(np.asarray(truth, np.int64), axis=0)


def choose(tables: Sequence[NDArray[np.floating]], together: Combinations | None) -> Combinations:
    """The answered option of every slot, (B, slots), from probabilities (B, options) a slot."""
    if together is None or not len(together):
        return np.stack([np.asarray(table).argmax(1) for table in tables], 1)
    scores = sum(np.log(np.asarray(t, np.float64)[:, together[:, i]] + _FLOOR) for i, t in enumerate(tables))
    return np.asarray(together[np.asarray(scores).argmax(1)], np.int64)


def save_together(folder: Path, task: Task, together: Combinations) -> None:
    """Write `together.json` by option names."""
    rows = [[slot.options[i] for slot, i in zip(task.slots, row, strict=True)] for row in together.tolist()]
    text = json.dumps({"slots": [slot.name for slot in task.slots], "answers": rows}, indent=0)
    (folder / TOGETHER).write_text(text + "\n", encoding="utf-8")


def load_together(folder: Path, task: Task) -> Combinations | None:
    """Read `together.json`; None where there is none. Raises `ModelError` when it is not the task's."""
    path = folder / TOGETHER
    if not path.is_file():
        return None
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        rows = _indices(found, task)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not the answers of task {task.name} ({error}); train the reviewer again") from None
    return np.array(rows, np.int64).reshape(-1, len(task.slots))


def _indices(found: Any, task: Task) -> list[list[int]]:
    names = [slot.name for slot in task.slots]
    if found["slots"] != names:
        raise ValueError(f"its slots are not {', '.join(names)}")
    asked = [slot.options for slot in task.slots]
    return [[options.index(o) for options, o in zip(asked, row, strict=True)] for row in found["answers"]]
