"""What a recording's identity is made from, and whether it is what was asked for."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from fusion.errors import RecordingError
from fusion.recording.native.stream import opened
from fusion.task import Task

_BLOCK = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file that was changed less than this ago may change again without its times telling."""
_REMEMBERED = 256
_Stamp: TypeAlias = tuple[str, int, int, int, int]
_known: OrderedDict[tuple[Path, tuple[_Stamp, ...]], tuple[str, int]] = OrderedDict()


def content_of(root: Path, files: Sequence[Path]) -> tuple[str, int]:
    """SHA-256 and size of a recording: of a single file its plain hash, of several their names under `root` too.

    Files that are as they were are not read again: a process opens the same recording several times.
    """
    key = (root, tuple(_stamp(path) for path in files))
    if key in _known:
        return _known[key]
    found = _read(root, files)
    newest = max((max(stamp[3:]) for stamp in key[1]), default=0)
    if time.time_ns() - newest > _SETTLED_NS:
        _known[key] = found
        while len(_known) > _REMEMBERED:
            _known.popitem(last=False)
    return found


def _stamp(path: Path) -> _Stamp:
    try:
        told = path.stat()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    return str(path), told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def _read(root: Path, files: Sequence[Path]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for path in files:
        if path != root:
            name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
            digest.update(f"{name.as_posix()} {path.stat().st_size}\n".encode())
        with opened(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    return digest.hexdigest(), size


def check_request(path: Path, what: str, names: Iterable[str], task: Task | None, split: str | None) -> None:
    """Raise `RecordingError` for a split of a recording that has none, or a `task` with none of the sensors `names`."""
    if split is not None:
        raise RecordingError(f"{path}: {what} has no splits; leave out '{split}'")
    check_task(path, names, task)


def check_task(path: Path, names: Iterable[str], task: Task | None) -> None:
    """Raise `RecordingError` when `task` has none of the sensors called `names`."""
    if task is not None and not task.sensors.keys() & set(names):
        has = ", ".join(sorted(set(names))) or "none that can be read"
        raise RecordingError(f"{path}: no sensor of task {task.name} ({', '.join(task.sensors)}); it has {has}")
