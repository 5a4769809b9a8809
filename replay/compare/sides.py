"""One of the two runs that are compared: its results, and what else its folder tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.json_text import parse_json
from replay.results.file import NAME
from replay.results.reading import read_results
from replay.results.records import Number, RecordingResults, RunResults
from replay.running.folder import MANIFEST_NAME, Manifest, RunFolder

_CONTENT_PARTS = 3
SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, eq=False)
class Side:
    """A run. `manifest` and `summary` are there where a run's folder was given, not for a results file alone."""

    path: Path
    results: RunResults
    manifest: Manifest | None = None
    summary: Mapping[str, Number] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """Every key that was changed for this run."""
        told = self.manifest.variant.settings if self.manifest else {}
        return {**told, **self.results.settings}


def read_side(path: Path, task: str = "") -> Side:
    """A run's folder or a results file. `task` is its task's name or file, where it is not the one that the folder
    tells, or for a file the bundled one.

    Raises `InputError` naming the file, also for one of other settings than its folder's run.
    """
    if not path.is_dir():
        return Side(path, read_results(path, task))
    if not (path / NAME).is_file():
        raise InputError(f"{path}: no {NAME} in it; give the folder of a run that came to its end")
    manifest = RunFolder(path).manifest() if (path / MANIFEST_NAME).is_file() else None
    results = read_results(path / NAME, task or (manifest.task if manifest else ""))
    if manifest and manifest.variant.settings != results.settings:
        raise InputError(f"{path / NAME}: of other settings than {path / MANIFEST_NAME}; run it again")
    return Side(path, results, manifest, _summary(path / SUMMARY_NAME))


def _summary(path: Path) -> dict[str, Number]:
    """The figures beside the results; none where they are missing or unreadable, for nothing hangs on them."""
    try:
        found: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def content_of(recording: RecordingResults) -> str:
    """What stands for a recording's content and stretch: the epoch in its items' ids, unless it tells; empty where
    nothing does.
    """
    if recording.content is not None:
        return recording.content
    parts = recording.items[0].id.split("/") if recording.items else []
    return parts[1] if len(parts) == _CONTENT_PARTS else ""
