"""Where `--out` leads: a folder here, or an object store that a run made here is copied to at its end.

Databases need a disk, so a run for `s3://…` lies in a folder of the user's cache, named after the address: a run that
was ended goes on there with the same command.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError, UnavailableError
from replay.results.file import NAME
from replay.running.folder import MANIFEST_NAME
from replay.running.workers.lock import NAME as LOCK_NAME

_LAST = (NAME, MANIFEST_NAME)
"""Whoever finds these finds all the rest."""
_NOT_KEPT = (".part", ".lock", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Destination:
    """`folder` is where the run lies, `url` where it goes to; empty when it stays."""

    folder: Path
    url: str = ""

    @classmethod
    def of(cls, out: str) -> Destination:
        """`out` is a path, or PROTOCOL://… of fsspec. Raises `ConfigError` for a protocol that is none here."""
        if "://" not in out:
            return cls(Path(out))
        url = out.rstrip("/")
        _file_system(url)
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(caches / "fusion-stack" / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16], url)

    def upload(self) -> None:
        """Copy everything there, `results.json` and `run.json` last. Raises `UnavailableError` naming the file."""
        if not self.url:
            return
        system, root = _file_system(self.url)
        for path in self._files():
            name = path.relative_to(self.folder).as_posix()
            try:
                system.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
                system.put_file(str(path), f"{root}/{name}")
            except Exception as error:  # noqa: BLE001 stores raise what their libraries do
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise UnavailableError(
                    f"{self.url}/{name}: cannot be written ({reason}); the run is in {self.folder}, "
                    "and the same command copies it again"
                ) from None
        print(f"copied to {self.url}")

    def _files(self) -> Iterator[Path]:
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != LOCK_NAME]
        kept = (path for path in files if not path.name.endswith(_NOT_KEPT))
        yield from sorted(kept, key=lambda path: (path.name in _LAST, path))


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"--out {url}: {' '.join(str(error).split())}") from None
    return system, str(root).rstrip("/")
