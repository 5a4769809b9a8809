"""What the recordings of a run held, where the ids of their items do not tell it."""

from __future__ import annotations

from dataclasses import replace

from replay.compare.sides import Side
from replay.running.folder import RunFolder
from replay.running.lane import epoch_of
from replay.running.modes.mode import Mode

_DRAWN = (Mode.LIVE, "demo")
"""Modes in which a daemon may have drawn its epoch itself, so that it stands for no content."""


def with_contents(side: Side) -> Side:
    """The same, each of whose recordings tells its content where a daemon may have drawn the ids.

    It is what the run noted when the recording was through, and unknown where it noted nothing.
    """
    manifest = side.manifest
    if manifest is None or manifest.mode not in _DRAWN:
        return side
    folder, found = RunFolder(side.path), {}
    for job in manifest.jobs:
        content = (folder.done(job.name).get("stamp") or {}).get("recording")
        found[job.name] = epoch_of(content, job) if isinstance(content, str) else ""
    recordings = tuple(replace(one, content=found.get(one.name, "")) for one in side.results.recordings)
    return replace(side, results=replace(side.results, recordings=recordings))
