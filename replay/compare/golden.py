"""A run's results as a small file to keep: what later runs are compared with."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from replay.compare.sides import read_side
from replay.results.file import NAME, digest
from replay.results.reading import read_content

DIGITS = {"box": 2, "score": 4, "margin": 4, "box3d": 3, "probabilities": 4}
"""Decimals that are kept: far below every tolerance, and a third of the bytes."""


def write_golden(run: Path, out: Path, task: str = "") -> int:
    """Keep results, of a run's folder or in a file, as `out`, gzipped when it ends with `.gz`; how many bytes.

    `task` is as `read_side` takes it.

    Raises `InputError` naming the file that cannot be used.
    """
    read_side(run, task)
    content = read_content(run / NAME if run.is_dir() else run)
    content["items"] = [_rounded(item) for item in content["items"]]
    text = json.dumps({"sha256": digest(content), **content}, sort_keys=True, separators=(",", ":")).encode()
    data = gzip.compress(text, 9, mtime=0) if out.suffix == ".gz" else text
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    return len(data)


def _rounded(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in item.items()}


def _value(name: str, value: Any) -> Any:
    if name == "verdict":
        return {slot: {**answer, "probabilities": _sure(answer["probabilities"])} for slot, answer in value.items()}
    if name not in DIGITS or value is None:
        return value
    return [round(one, DIGITS[name]) for one in value] if isinstance(value, list) else round(value, DIGITS[name])


def _sure(probabilities: dict[str, float]) -> dict[str, float]:
    return {option: round(p, DIGITS["probabilities"]) for option, p in probabilities.items()}
