"""Recordings that could not be run, or only what is sound of them: told once the others are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fusion.errors import DamagedError, FusionError, InputError, PartialError, UnavailableError
from replay.results.records import RecordingResults
from replay.running.folder import write_json
from replay.running.plan import Job

NAME = "failures.json"


@dataclass(slots=True)
class Failures:
    """What went wrong in a run, by the name of the job."""

    errors: dict[str, FusionError] = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def collected(self, job: Job) -> Iterator[None]:
        """Keep an error that concerns this recording alone; others go on their way."""
        try:
            yield
        except (InputError, UnavailableError) as error:
            self.add(job, error)

    def add(self, job: Job, error: FusionError) -> None:
        """Note that `job` failed with `error`."""
        self.errors[job.name], self._sources[job.name] = error, job.source

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
        return "; ".join(f"{name}: {error}" for name, error in self.errors.items())
