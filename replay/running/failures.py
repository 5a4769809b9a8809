"""Recordings that could not be run, or only what is sound of them: told once the others are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusion.errors import DamagedError, FusionError, PartialError
from replay.results.records import RecordingResults
from replay.running.folder import write_json
from replay.running.plan import Job

NAME = "failures.json"


@dataclass(slots=True)
class Failures:
    """What went wrong in a run, by the name of the job."""

    errors: dict[str, FusionError] = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Sequence[Job], errors: Mapping[str, FusionError]) -> Failures:
        """Those of `jobs` that have an error, in their order."""
        failed = [job for job in jobs if job.name in errors]
        return cls({job.name: errors[job.name] for job in failed}, {job.name: job.source for job in failed})

    def ran(self, jobs: Sequence[Job]) -> tuple[Job, ...]:
        """Those that did not fail. Raises what they failed with when all did."""
        left = tuple(job for job in jobs if job.name not in self.errors)
        if jobs and not left:
            first = next(iter(self.errors.values()))
            if len(self.errors) == 1:
                raise first
            error = FusionError(f"none of {len(jobs)} recordings could be run: {self._told()}")
            error.exit_code = first.exit_code
            raise error
        return left

    def write(self, out: Path) -> None:
        """`OUT/failures.json`, and none of an earlier run when nothing failed."""
        path = out / NAME
        if self.errors:
            told = [
                {"name": name, "source": self._sources[name], "error": str(error), "exit_code": error.exit_code}
                for name, error in self.errors.items()
            ]
            write_json(path, told)
        else:
            path.unlink(missing_ok=True)

    def check(self, recordings: Sequence[RecordingResults]) -> None:
        """Raise `PartialError` when some recordings failed, `DamagedError` when some of the others are damaged."""
        damaged = [one for one in recordings if one.damage]
        told = "; ".join(f"{one.name}: {one.damage}" for one in damaged)
        if self.errors:
            also = f"; and of {len(damaged)} only what is sound was run: {told}" if damaged else ""
            total = len(recordings) + len(self.errors)
            raise PartialError(f"{len(self.errors)} of {total} recordings could not be run: {self._told()}{also}")
        if damaged:
            raise DamagedError(
                f"{len(damaged)} of {len(recordings)} recordings are damaged; what is sound was run: {told}"
            )

    def _told(self) -> str:
        """Each text once, with the names of all that say it."""
        together: dict[str, list[str]] = {}
        for name, error in self.errors.items():
            together.setdefault(str(error), []).append(name)
        return "; ".join(f"{', '.join(names)}: {text}" for text, names in together.items())
