"""What an exporter is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from fusion.errors import InputError
from fusion.recording.base import RecordingReader
from replay.results.records import RecordingResults, RunResults

Openers: TypeAlias = Mapping[str, Callable[[], RecordingReader]]
"""How each recording of a run is opened, by its name in the run."""
EPOCH_NS = 10**17
"""Times before this (March 1973) are nominal, or count from the start of something: they are no times of day."""


class UnsuitedError(InputError):
    """A format makes no sense for this run; the text says of which recording, and why."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The files and folders that were written, and remarks a person should read (what was left out, and why)."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """What an entry point of the group `fusion.exporters` must name."""

    def __call__(self, results: RunResults, opened: Openers, out: Path) -> Exported:
        """Write the run under the folder `out`; whatever is written is there whole or not at all.

        Raises `UnsuitedError` where the format makes no sense, and `InputError` naming the file otherwise.
        """


def file_of(results: RunResults, one: RecordingResults, out: Path, name: str) -> Path:
    """Where a file of one recording goes: into the run's folder, or the recording's own in a run of several."""
    return out / name if len(results.recordings) == 1 else out / "recordings" / one.name / name
