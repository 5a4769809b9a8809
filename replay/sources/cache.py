"""Copies of remote recordings on this machine's disk, bounded in bytes, the longest unused given up first.

    DIR/KEY.json     what is kept under a key: URL, bytes, fingerprint, whether it is complete; its time is the last use
    DIR/KEY.lock     held shared by whoever reads the copy, alone by whoever makes or removes it
    DIR/KEY/         the copy

Several processes may share one: a copy is made once, and none in use is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import InputError, UnavailableError
from fusion.json_text import parse_json
from replay.sources.remote import Remote, describe, translated

_BLOCK = 1 << 20
_PATIENCE_S = 600
_POLL_S = 0.1


@dataclass(eq=False)
class Held:
    """A copy in use: it stays where it is as long as this object lives."""

    path: Path
    lock: int

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.lock)


_held: weakref.WeakValueDictionary[tuple[Path, str], Held] = weakref.WeakValueDictionary()
"""What this process holds. A recording that changes meanwhile does not change under it."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Copies in `folder`, of together at most `limit_bytes`."""

    folder: Path
    limit_bytes: int

    def hold(self, url: str) -> Held:
        """A verified copy of the recording at `url`, made where there is none of it as it is now.

        Raises `FusionError` naming the URL: not reachable, not there, not whole, or larger than the cache.
        """
        key = hashlib.sha256(url.encode()).hexdigest()[:24]
        known = _held.get((self.folder, key))
        if known is not None:
            return known
        remote = describe(url)
        if remote.size > self.limit_bytes:
            raise InputError(
                f"{url}: {remote.size} bytes, and the cache may have {self.limit_bytes}; see --cache-bytes"
            )
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._make_sure(remote, key, lock)
            os.utime(self._note(key))
        except BaseException:
            os.close(lock)
            raise
        held = _held[(self.folder, key)] = Held(self._path(remote, key), lock)
        return held

    def _make_sure(self, remote: Remote, key: str, lock: int) -> None:
        """Returns with a shared lock on a copy that is whole and as the remote is."""
        ends = time.monotonic() + _PATIENCE_S
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if self._is_fresh(remote, key):
                return
            fcntl.flock(lock, fcntl.LOCK_UN)
            if _alone(lock):
                self._fetch(remote, key)
            elif time.monotonic() > ends:
                raise UnavailableError(f"{remote.url}: it changed, and another run still reads the old copy of it")
            else:
                time.sleep(_POLL_S)

    def _is_fresh(self, remote: Remote, key: str) -> bool:
        note = _read_note(self._note(key))
        if not note.get("complete") or note.get("fingerprint") != remote.fingerprint:
            return False
        sizes = note.get("sizes", {})
        places = {file.name: self.folder / key / file.name for file in remote.files}
        return all(place.is_file() and place.stat().st_size == sizes.get(name) for name, place in places.items())

    def _fetch(self, remote: Remote, key: str) -> None:
        note = {"url": remote.url, "bytes": remote.size, "fingerprint": remote.fingerprint, "complete": False}
        self._reserve(key, note)
        sizes: dict[str, int] = {}
        with translated(remote.url), _writing(self.folder):
            shutil.rmtree(self.folder / key, ignore_errors=True)
            for file in remote.files:
                out = self.folder / key / file.name
                out.parent.mkdir(parents=True, exist_ok=True)
                left = self.limit_bytes - sum(sizes.values())
                sizes[file.name] = _copy(remote, file.path, out, left)
                if file.size is not None and sizes[file.name] != file.size:
                    raise UnavailableError(
                        f"{remote.url}: {sizes[file.name]} bytes of {file.name} came where {file.size} are promised; "
                        "try again"
                    )
        if describe(remote.url).fingerprint != remote.fingerprint:
            raise UnavailableError(f"{remote.url}: it changed while it was copied; try again")
        self._reserve(key, {**note, "bytes": sum(sizes.values()), "sizes": sizes, "complete": True})

    def _reserve(self, key: str, note: dict[str, Any]) -> None:
        """Write the note of a copy once there is room for its bytes."""
        with _writing(self.folder), (self.folder / "room.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            others = [path for path in self.folder.glob("*.json") if path.stem != key]
            total = note["bytes"] + sum(_read_note(path).get("bytes", 0) for path in others)
            for path in sorted(others, key=lambda path: path.stat().st_mtime_ns):
                if total <= self.limit_bytes:
                    break
                total -= self._remove(path)
            if total > self.limit_bytes:
                raise InputError(
                    f"{note['url']}: no room in the cache of {self.limit_bytes} bytes, the rest of it is in use; "
                    "see --cache-bytes"
                )
            part = self.folder / f"{key}.part"
            part.write_text(json.dumps(note), encoding="utf-8")
            part.replace(self._note(key))

    def _remove(self, note: Path) -> int:
        """Remove a copy that nobody uses; the bytes that frees."""
        lock = os.open(note.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _alone(lock):
                return 0
            freed = int(_read_note(note).get("bytes", 0))
            note.unlink(missing_ok=True)
            shutil.rmtree(note.with_suffix(""), ignore_errors=True)
            return freed
        finally:
            os.close(lock)

    def _note(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _path(self, remote: Remote, key: str) -> Path:
        return self.folder / key if remote.folder else self.folder / key / remote.files[0].name


def _copy(remote: Remote, path: str, out: Path, limit: int) -> int:
    count = 0
    with remote.fs.open(path, "rb") as source, out.open("wb") as copy:
        while block := source.read(_BLOCK):
            count += len(block)
            if count > limit:
                raise InputError(f"{remote.url}: larger than the cache may be; see --cache-bytes")
            copy.write(block)
    return count


def _alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_note(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(folder)):
            raise
        raise InputError(f"{error.filename}: the cache cannot be written ({error.strerror})") from None
