"""The folder of a detector's run: never written over by another, gone on with only by the recipe it was begun with."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.checkpoint import SUFFIX, short_name
from fusion.training.detection.prepared import data_sha256
from fusion.training.detection.recipe import DetectorRecipe

RECIPE_NAME = "recipe.json"
_FREE = ("threads", "device")
"""What of a recipe may be another when a run goes on."""

_log = logging.getLogger(__name__)


def decides(recipe: DetectorRecipe, data_yaml: Path, **others: object) -> dict[str, Any]:
    """All that decides how a run comes out: its recipe, the content of its start and of its data, and `others`."""
    told = {name: value for name, value in asdict(recipe).items() if name not in _FREE}
    told |= {"start": content_of(Path(recipe.start)) if recipe.start else "", "data": data_sha256(data_yaml)[:16]}
    plain: dict[str, Any] = json.loads(json.dumps(told | others))
    return plain


def start_name(start: str) -> str:
    """The name of a recipe's start, for where it lay means nothing elsewhere; empty without one."""
    path = Path(start)
    return "" if not start else short_name(path) if path.suffix == SUFFIX else path.resolve().name


def told_in(folder: Path, recipe: DetectorRecipe) -> dict[str, Any]:
    """A recipe for a file of `folder`, which may be moved: a start that lies in there by its path from there, any other
    by its name.
    """
    start, there = Path(recipe.start).resolve(), folder.resolve()
    within = recipe.start and start.is_relative_to(there)
    return asdict(recipe) | {"start": start.relative_to(there).as_posix() if within else start_name(recipe.start)}


def content_of(model: Path) -> str:
    """The name and the digest of a checkpoint, or of the detector of a bundle: the same wherever it lies."""
    file = model / GRAPH_NAME if model.is_dir() else model
    if not file.is_file():
        return model.name
    with file.open("rb") as content:
        return f"{model.name} ({hashlib.file_digest(content, 'sha256').hexdigest()[:16]})"


def refuse_taken(out: Path, *, start: str = "", resume: bool = False) -> None:
    """Raise `ConfigError` when a run in `out` would write over weights: those there, or those it starts from."""
    if start and Path(start).resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            f"--start {start} lies in {out}, where this run writes; give another --out, or move the start"
        )
    if not resume and _holds_weights(out):
        raise ConfigError(
            f"{out} holds the weights of a run; give another --out, go on with it by --resume, or remove the folder"
        )


def check_run(out: Path, decided: Mapping[str, Any], *, start: str = "", resume: bool = False) -> bool:
    """Whether there is a run in `out` to be gone on with, by `resume`.

    Raises `ConfigError` as `refuse_taken` does, and for a run that was begun with something else than `decided`. One of
    which that is not known, for an earlier build began it, is gone on with and a warning.
    """
    refuse_taken(out, start=start, resume=resume)
    if not _holds_weights(out):
        return False
    try:
        begun = json.loads((out / RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        _log.warning("%s: does not tell by which recipe it was begun; it goes on as if by this one", out)
        return True
    other = [name for name in decided if name in begun and begun[name] != decided[name]]
    if other:
        differs = ", ".join(f"{name} {begun[name]!r} and not {decided[name]!r}" for name in other)
        raise ConfigError(
            f"{out}: --resume goes on with a run that was begun with {differs}; give that, or another --out"
        )
    return True


def keep_recipe(out: Path, decided: Mapping[str, Any]) -> None:
    """Note in `out` by what a run is begun."""
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE_NAME).write_text(json.dumps(decided, indent=1) + "\n", encoding="utf-8")


def _holds_weights(out: Path) -> bool:
    return any(out.rglob(f"*{SUFFIX}"))
