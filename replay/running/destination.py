"""Where `--out` leads: a folder here, or an object store that a run made here is copied to at its end.

Databases need a disk, so a run for `s3://…` lies in a folder of the user's cache, named after the address: a run that
was ended goes on there with the same command.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError, UnavailableError
from replay.live.paced import LIVE_NAME
from replay.results.file import NAME
from replay.running.evidence.layout import NAME as EVIDENCE_NAME
from replay.running.failures import NAME as FAILURES_NAME
from replay.running.folder import DONE_NAME, FACTS_NAME, LEDGER_NAME, MANIFEST_NAME, RunFolder
from replay.running.workers.lock import NAME as LOCK_NAME

_LAST = (NAME, MANIFEST_NAME)
"""Whoever finds these finds all the rest."""
_NOT_KEPT = (".part", ".lock", "-wal", "-shm")
_NOT_ALWAYS = frozenset((DONE_NAME, FACTS_NAME, LEDGER_NAME, EVIDENCE_NAME, LIVE_NAME))
"""What a later run of a recording may take away from its folder."""


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
        """Copy everything there, `results.json` and `run.json` last. Raises `UnavailableError` naming the file.

        What an earlier run left there and this one took away from its folder here is removed; nothing else is.
        """
        if not self.url:
            return
        system, root = _file_system(self.url)
        files = self._files()
        self._copy(system, root, (path for path in files if path.name not in _LAST))
        self._remove_old(system, root)
        self._copy(system, root, (path for path in files if path.name in _LAST))
        print(f"copied to {self.url}")

    def _copy(self, system: Any, root: str, files: Iterable[Path]) -> None:
        for path in files:
            name = path.relative_to(self.folder).as_posix()
            with self._told(name, "written"):
                system.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
                system.put_file(str(path), f"{root}/{name}")

    def _remove_old(self, system: Any, root: str) -> None:
        with self._told(FAILURES_NAME, "looked for"):
            there = {str(path).removeprefix(f"{root}/") for path in system.find(root)}
        for name in sorted(there & self._gone()):
            with self._told(name, "removed"):
                system.rm_file(f"{root}/{name}")

    def _gone(self) -> set[str]:
        """What a run here may have had, by its place under the folder, and has not now."""
        places = [place / name for place in RunFolder(self.folder).job("").glob("*") for name in _NOT_ALWAYS]
        places.append(self.folder / FAILURES_NAME)
        return {place.relative_to(self.folder).as_posix() for place in places if not place.exists()}

    @contextmanager
    def _told(self, name: str, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 stores raise what their libraries do
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UnavailableError(
                f"{self.url}/{name}: cannot be {done} ({reason}); the run is in {self.folder}, "
                "and the same command copies it again"
            ) from None

    def _files(self) -> list[Path]:
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != LOCK_NAME]
        kept = (path for path in files if not path.name.endswith(_NOT_KEPT))
        return sorted(kept, key=lambda path: (path.name in _LAST, path))


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"--out {url}: {' '.join(str(error).split())}") from None
    return system, str(root).rstrip("/")
