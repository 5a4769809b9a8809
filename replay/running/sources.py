"""What the command line calls SOURCE: recordings by path, each a job of the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusion.errors import InputError
from fusion.recording.base import RecordingReader, open_recording
from fusion.task import Task
from replay.running.modes.origin import origin
from replay.running.plan import Job


def jobs_of(sources: Sequence[str], split: str = "") -> tuple[Job, ...]:
    """A job for each recording. Raises `InputError` for a source that is none."""
    jobs: dict[str, Job] = {}
    for source in sources:
        if not Path(source).exists():
            raise InputError(f"{source}: no such file or folder; give the path of a recording")
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).stem).strip("-.") or "recording"
        name, number = stem, 1
        while name in jobs:
            number += 1
            name = f"{stem}-{number}"
        mine = split or ("test" if Path(source).is_dir() else "")
        jobs[name] = Job(name, source, mine)
    return tuple(jobs.values())


def open_job(job: Job, task: Task) -> RecordingReader:
    """The recording of a job, as the run reads it. Raises `RecordingError`."""
    if job.evidence:
        return origin(Path(job.evidence), job.source, lambda: open_job(replace(job, evidence=""), task))
    return open_recording(Path(job.source), task, job.split or None)
