"""The door to recordings: what the command line calls SOURCE becomes jobs, and a job a reader."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusion.errors import RecordingError
from fusion.recording.base import RecordingInfo, RecordingReader, open_recording
from fusion.recording.content import check_task
from fusion.recording.mapping import MappedReader, read_mapping
from fusion.recording.order import OrderedReader
from fusion.recording.stretch import Stretch
from fusion.task import Task
from replay.running.modes.origin import origin
from replay.running.plan import Job
from replay.sources.cache import Cache, Held
from replay.sources.find import Tell, find_recordings
from replay.sources.names import job_names
from replay.sources.options import CACHE_BYTES, SourceOptions, default_cache
from replay.sources.remote import is_url
from replay.sources.stretches import cut


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def jobs_of(
    sources: Sequence[str],
    split: str = "",
    options: SourceOptions | None = None,
    task: Task | None = None,
    tell: Tell = _tell,
) -> tuple[Job, ...]:
    """A job for each recording that the sources name, or for each stretch of one.

    `task` is needed to map sensors and to cut recordings. Raises `InputError` for a source that is none, `ConfigError`
    for options that are wrong.
    """
    options = options or SourceOptions(split=split)
    if task is not None:
        read_mapping(options.mapping, task)
    found = find_recordings(sources, tell)
    names = job_names(found)
    jobs = [
        Job(
            names[source], source, options.split or _usual_split(source), mapping=options.mapping,
            salvage=options.salvage, cache=options.cache, cache_bytes=options.cache_bytes,
        )
        for source in found
    ]  # fmt: skip
    return cut(jobs, options, lambda job: open_whole(job, task), tell)


def open_job(job: Job, task: Task) -> RecordingReader:
    """The recording of a job, or its stretch, as the run reads it. Raises `FusionError`: it cannot be had, or read."""
    if job.evidence:
        return origin(Path(job.evidence), job.source, lambda: open_job(replace(job, evidence=""), task))
    whole = open_whole(job, task)
    if job.from_s == 0 and job.to_s is None:
        _check_any(whole.info(), "no readings in it; there is nothing to run")
        return whole
    stretch = Stretch.of_seconds(whole, job.from_s, job.to_s)
    to = "on" if job.to_s is None else f"to {job.to_s:g}"
    lasts = whole.info().duration_ns / 1e9
    _check_any(stretch.info(), f"no readings from second {job.from_s:g} {to}; it lasts {lasts:.3f} s")
    return stretch


def open_whole(job: Job, task: Task | None) -> RecordingReader:
    """The whole recording of a job, whatever its stretch, its sensors called as the job says and its times checked."""
    held = hold(job)
    reader = _opened(held.path if held else Path(job.source), job, task)
    if held:
        weakref.finalize(reader, _let_go, held)
    if reader.info().continuous:
        reader = OrderedReader(reader, salvage=job.salvage)
    if not job.mapping or task is None:
        return reader
    mapped = MappedReader(reader, read_mapping(job.mapping, task), task)
    check_task(reader.path, mapped.info().sensors, task)
    return mapped


def hold(job: Job) -> Held | None:
    """The local copy of a remote job's recording, which stays as long as the object lives; None for a local one."""
    if not is_url(job.source):
        return None
    folder = Path(job.cache) if job.cache else default_cache()
    return Cache(folder.absolute(), job.cache_bytes or CACHE_BYTES).hold(job.source)


def _opened(path: Path, job: Job, task: Task | None) -> RecordingReader:
    try:
        return open_recording(path, task, job.split or None, salvage=job.salvage)
    except RecordingError as error:
        if not job.mapping or task is None:
            raise
        try:  # it may be that no sensor has a name the task knows, yet
            return open_recording(path, None, job.split or None, salvage=job.salvage)
        except RecordingError:
            raise error from None


def _usual_split(source: str) -> str:
    """`test` where pictures with labels have a split of that name: what models have not seen."""
    if is_url(source):
        return ""
    folder = Path(source)
    has_pictures = (folder / "images").is_dir()
    return "test" if has_pictures and ((folder / "test.txt").is_file() or (folder / "images/test").is_dir()) else ""


def _check_any(info: RecordingInfo, what: str) -> None:
    if not any(sensor.count for sensor in info.sensors.values()):
        raise RecordingError(f"{info.path}: {what}")


def _let_go(held: Held) -> None:
    """The reader is gone, and so may be the copy."""
