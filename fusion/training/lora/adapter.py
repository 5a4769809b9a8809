"""An adapter on disk, small enough to be sent: what was learnt, and of which base.

adapter_model.safetensors adapter_config.json   low-rank matrices, in peft's own form
words.safetensors                               rows of words that learnt or are new, where the task has other ones
adapter.json                                    format, task, base and its fingerprint
calibration.json together.json                  of the reviewer that it makes of its base
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fusion.errors import ModelError
from fusion.review.folder import first_line, read_json
from fusion.task import Task

FORMAT = 1
DESCRIPTION, WORDS = "adapter.json", "words.safetensors"


@dataclass(frozen=True, slots=True)
class Description:
    """`base` is a name for people, `base_sha256` the fingerprint of the weights that the adapter is for."""

    task: Task
    base: str
    base_sha256: str


def describe(folder: Path, described: Description) -> None:
    """Write `adapter.json`."""
    told = {
        "format": FORMAT,
        "base": described.base,
        "base_sha256": described.base_sha256,
        "task": described.task.model_dump(mode="json"),
    }
    (folder / DESCRIPTION).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def described(folder: Path) -> Description:
    """Read it. Raises `ModelError` naming the file."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ModelError(f"{path}: missing, so there is no adapter here; give what 'train lora' wrote")
    told = read_json(path)
    if told.get("format") != FORMAT:
        raise ModelError(f"{path}: format {told.get('format')!r}; this program reads {FORMAT}")
    try:
        return Description(Task.model_validate(told["task"]), str(told["base"]), str(told["base_sha256"]))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: not as it was written ({first_line(error)})") from None


def check_base(folder: Path, described: Description, label: str, sha256: str) -> None:
    """Raises `ModelError` where the adapter is of another base."""
    if described.base_sha256 != sha256:
        raise ModelError(
            f"{folder}: was learnt on {described.base} of weights {described.base_sha256[:12]}; {label} has "
            f"{sha256[:12]} here; give that base, or train an adapter for this one: fusion train lora"
        )


def save_words(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write the rows of new words; nothing where there are none."""
    from safetensors.torch import save_file

    if any(len(rows) for rows in tensors.values()):
        save_file({name: rows.contiguous() for name, rows in tensors.items()}, folder / WORDS)


def load_words(folder: Path) -> dict[str, Tensor]:
    """Read them; empty where the adapter has none. Raises `ModelError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / WORDS).is_file():
        return {}
    try:
        return dict(load_file(folder / WORDS))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WORDS}: cannot be read ({first_line(error)})") from None
