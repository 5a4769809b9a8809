"""A file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fusion.errors import RecordingError


@contextmanager
def part_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path.part` for writing; on success it is flushed to disk and takes the name `path`, on error it is removed.

    Raises `RecordingError` when the disk refuses. A process killed meanwhile leaves the `.part`, never a half `path`.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(part)
        if error.filename is not None and not str(part).startswith(str(error.filename)):
            raise  # about another file
        raise RecordingError(f"{path}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        _remove(part)
        raise


def _remove(part: Path) -> None:
    with suppress(OSError):
        part.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
