"""From the databases a run left behind to the files people and programs open."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fusion.recording.base import RecordingReader
from fusion.task import Task
from replay.export.base import Openers
from replay.export.registry import SCENE, export
from replay.report.page import MAX_TIMELINES, Shown, write_report
from replay.report.recordings import nothing_used, troubles
from replay.report.utterances import MAX_AUDIO_BYTES, Utterance, utterances
from replay.results import file
from replay.results.frames import FrameIndex
from replay.results.gather import Source, gather
from replay.results.records import Number, RunResults
from replay.results.rivals import RivalBytes, rival_bytes
from replay.results.summary import summarize
from replay.running.folder import RunFolder, write_json
from replay.running.modes.mode import Mode
from replay.running.plan import Job, Variant
from replay.sources.jobs import open_job
from replay.whatif.figures import loses_readings, world_figures


def openers(task: Task, jobs: tuple[Job, ...]) -> Openers:
    """How each recording of a run is opened, by its name in the run."""

    def opener(job: Job) -> Callable[[], RecordingReader]:
        return lambda: open_job(job, task)

    return {job.name: opener(job) for job in jobs}


def collect(
    task: Task,
    jobs: tuple[Job, ...],
    variant: Variant,
    folder: RunFolder,
    measured: Mapping[str, Number] = MappingProxyType({}),
    *,
    with_pictures: bool = True,
) -> RunResults:
    """All of a run's recordings joined with their truth; `measured` are facts that only the run itself knows.

    What pictures of the sent items would weigh takes as long as all the rest, and is told only `with_pictures`.
    """
    recordings, pictures, opened = [], RivalBytes(), openers(task, jobs)
    mode = folder.mode()
    for job in jobs:
        reader = opened[job.name]()
        ledger = folder.ledger(job.name)
        source = Source(job.name, job.source, job.split, job.from_s, job.to_s, lossy=loses_readings(variant))
        books = ledger if ledger.exists() else None
        one = gather(task, source, folder.spool(job.name), books, reader, reviewed=mode != Mode.EDGE_ONLY)
        if with_pictures:
            pictures.add(rival_bytes(one.items, FrameIndex(reader, task)))
        recordings.append(one)
    items = [item for one in recordings for item in one.items]
    known = world_figures([folder.facts(job.name) for job in jobs], items) | dict(measured)
    summary = summarize(task, recordings, pictures, known)
    return RunResults(task, tuple(recordings), summary, variant.settings, variant.name)


def write_outputs(results: RunResults, opened: Openers, out: Path, *, exports: Sequence[str] = (SCENE,)) -> None:
    """Write everything under `out` and say where; `exports` are names of exporters."""
    write_json(out / "summary.json", dict(results.summary))
    file.write_results(results, out / file.NAME)
    said = _said(results, opened)
    frames = {one.name: FrameIndex(opened[one.name](), results.task) for one in results.recordings}
    shown = {name: Shown(views, said.get(name, ())) for name, views in frames.items()}
    write_report(results, out / "report.html", shown)
    for one in nothing_used(results.recordings):
        print(f"{one.name}: no sample could be made of it: {'; '.join(troubles(one))}", file=sys.stderr)
    for name in ("report.html", "summary.json", file.NAME):
        print(f"wrote {out / name}")
    for line in export(exports, results, opened, out):
        print(line)


def _said(results: RunResults, opened: Openers) -> dict[str, tuple[Utterance, ...]]:
    """What was said in each recording that is drawn over time; the sound of all of them shares one page's room."""
    found, room = {}, MAX_AUDIO_BYTES
    for one in results.recordings[:MAX_TIMELINES]:
        found[one.name] = utterances(opened[one.name](), results.task, room)
        room -= sum(len(utterance.wav) for utterance in found[one.name])
    return found
