"""What a run was begun with, kept in its state, so that `--resume` goes on with that and with nothing else.

It is told as texts by name: recipe, items, models. A state without them, of an earlier version, is not gone on from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.errors import ConfigError, ModelError
from fusion.review.item_cache import ItemCache

_SHOWN = 40
"""Characters of a field's value that are worth telling."""


def decisive(settings: Any, free: Collection[str] = ("threads",)) -> str:
    """The fields of a dataclass as JSON, but for those that are `free`: they may be others when a run goes on."""
    return json.dumps({name: value for name, value in asdict(settings).items() if name not in free}, sort_keys=True)


def arrays_sha256(arrays: Iterable[NDArray[Any]]) -> str:
    """Hex digest of the arrays' numbers."""
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def file_sha256(path: Path | None) -> str:
    """Hex digest of a file's content, empty where there is none."""
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def begun_with_items(cache: ItemCache, validation: ItemCache) -> dict[str, str]:
    """What is learnt from review items and chosen by others, whole: questions, trunk, evidence, truth."""
    told = {"task": cache.task.prompt_sha256, "profile": cache.profile.sha256}
    for name, items in (("training items", cache), ("validation items", validation)):
        told[name] = arrays_sha256(items.columns[column] for column in sorted(items.columns))
    return told


def refuse_other(where: Path, kept: object, begun: Mapping[str, str]) -> None:
    """Raise `ConfigError` where a state, kept in `where`, is of a run that was `kept` as begun with anything else."""
    if not isinstance(kept, Mapping):
        raise ConfigError(
            f"{where}: an earlier version's, which does not tell what the run was begun with; leave out --resume to "
            "begin anew"
        )
    if other := [_difference(name, kept.get(name), value) for name, value in begun.items() if kept.get(name) != value]:
        raise ConfigError(
            f"{where}: a run that was begun otherwise: {', '.join(other)}; give what it was begun with, leave out "
            "--resume to begin anew, or give another --out"
        )


def save_run(path: Path, begun: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Write a state in torch's form, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"of": dict(begun), **state}, path.with_suffix(".draft"))
    path.with_suffix(".draft").replace(path)


def load_run(path: Path, begun: Mapping[str, str]) -> dict[str, Any] | None:
    """What `save_run` wrote, None where there is nothing.

    Raises `ConfigError` as `refuse_other` does, and `ModelError` for a damaged file.
    """
    if not path.is_file():
        return None
    try:
        state = dict(torch.load(path, weights_only=True))
    except Exception as error:  # noqa: BLE001 whatever torch's readers meet in a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: cannot be gone on from ({reason}); remove it, or leave out --resume") from None
    refuse_other(path, state.get("of"), begun)
    return state


def _difference(name: str, kept: str | None, value: str) -> str:
    """`name`, with the fields that differ where both are fields."""
    try:
        then, now = json.loads(kept or ""), json.loads(value)
    except ValueError:
        return name
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return name
    fields = [field for field in {**then, **now} if then.get(field) != now.get(field)]
    return f"{name} ({', '.join(_told(field, then.get(field), now.get(field)) for field in fields)})"


def _told(field: str, then: object, now: object) -> str:
    told = f"{json.dumps(then)} and not {json.dumps(now)}"
    return f"{field} {told}" if len(told) <= _SHOWN else field
