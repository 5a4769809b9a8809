"""Training data that was prepared before: used again when it was made of the same pictures, else made anew."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from fusion.errors import InputError
from fusion.training.variants import staged

MADE_OF_NAME = "made-of.json"
"""What a folder of prepared data was made of, beside its `data.yaml`."""
_YAML = "data.yaml"
_OURS = {"images", "labels", "train.txt", "val.txt", _YAML, MADE_OF_NAME}
_CACHE = ".cache"
"""What ultralytics leaves there."""


def prepared(root: Path, out: Path, facts: Iterable[object], build: Callable[[Path], object]) -> Path:
    """The `data.yaml` of the training data in `out`, which `build` writes into the folder it is given.

    `facts` are all that decides what is in it, as JSON can hold it. Data made here of the same `root` and facts is used
    as it is; other data, and what was left of a preparation that was cut short, goes. Raises `InputError` when `out`
    holds something else, or `root` itself.
    """
    made_of = {"root": str(root.resolve()), "at": str(out.resolve()), "sha256": facts_sha256(facts)}
    if (out / _YAML).is_file() and _made_of(out) == made_of:
        return out / _YAML
    _clear(out, root)
    with staged(out) as part:
        build(part)
        (part / MADE_OF_NAME).write_text(json.dumps(made_of, indent=1) + "\n", encoding="utf-8")
    return out / _YAML


def facts_sha256(facts: Iterable[object]) -> str:
    """The digest of facts that JSON can hold, in their order."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(json.dumps(fact).encode() + b"\n")
    return digest.hexdigest()


def data_sha256(data_yaml: Path) -> str:
    """The digest of what prepared data was made of, wherever that lay; empty for data that was not prepared here."""
    return _made_of(data_yaml.parent).get("sha256", "")


def _made_of(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MADE_OF_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _clear(out: Path, root: Path) -> None:
    """Remove what was prepared in `out` before, and nothing else."""
    if out.is_symlink():
        out.unlink()
    if not out.exists():
        return
    if root.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{root}: lies where training data is prepared ({out}); give another --out, or move it")
    strange = sorted(p.name for p in out.iterdir() if p.name not in _OURS and p.suffix != _CACHE)
    if strange:
        raise InputError(
            f"{out}: training data is prepared there, and {strange[0]} is none; move it, or give another --out"
        )
    shutil.rmtree(out)
