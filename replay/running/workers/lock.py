"""One run at a time writes into a folder; its workers hold the lock too, so it is free when the last one is gone."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import InputError, UnavailableError

NAME = ".run.lock"
PATIENCE_S = 5.0
"""The workers of a run that was killed end by themselves, but not before they notice."""
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Held:
    """The lock: its open file, and a word written into it that tells this run's folder from any other."""

    descriptor: int
    token: str


@contextmanager
def locked(out: Path, patience_s: float = PATIENCE_S) -> Iterator[Held]:
    """Hold `out` for this run. Raises `UnavailableError` when another has it, `InputError` for a bad folder."""
    path = out / NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another --out") from None
    try:
        _wait_for(descriptor, path, patience_s)
        token = secrets.token_hex(16)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {token}\n".encode(), 0)
        yield Held(descriptor, token)
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path, patience_s: float) -> None:
    ends = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                owner = os.pread(descriptor, 64, 0).decode(errors="replace").split(" ")[0] or "unknown"
                raise UnavailableError(
                    f"{path.parent}: another run (process {owner}) is writing there; wait for it or give another --out"
                ) from None
            time.sleep(_PAUSE_S)
        except OSError as error:
            raise InputError(f"{path}: cannot be locked ({error.strerror}); give an --out on another disk") from None
        else:
            return


def is_here(out: Path, token: str) -> bool:
    """Whether `out`, seen from this process, is the folder of the run with this `token`."""
    try:
        return (out / NAME).read_text(encoding="utf-8").split()[-1:] == [token]
    except OSError:
        return False
