"""Reads a `results.json` back: what `replay.results.file` wrote, checked, as records.

What a file does not hold (samples, ledgers, pictures of the truth) is empty in them.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fusion.errors import ConfigError, InputError
from fusion.json_text import parse_json
from fusion.task import Task
from fusion.types import Box2D, Box3D, ItemState, LedgerCounts, SlotAnswer
from replay.results.file import FORMAT, digest
from replay.results.records import DefectResult, Fate, ItemResult, RecordingResults, RunResults

_Corners = tuple[float, float, float, float]
_Solid = tuple[float, float, float, float, float, float, float]


class _Part(BaseModel):
    """A part of the file. Keys that a later program added are passed over; numbers must be finite."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Recording(_Part):
    name: str
    source: str
    split: str
    from_s: float
    to_s: float | None
    samples: int
    gaps: int
    damage: str
    ages_ms: dict[str, float | None] = Field(default_factory=dict)


class _Defect(_Part):
    name: str
    recording: str
    label: str
    condition: str
    time_ns: int
    moments: int
    fate: Fate


class _Answer(_Part):
    option: str
    probabilities: dict[str, float]


class _Item(_Part):
    id: str
    recording: str
    sequence: int
    time_ns: int
    track: int
    box: _Corners
    label: str
    score: float
    state: ItemState
    reasons: tuple[str, ...]
    into: str
    note: str
    evidence_bytes: int
    maps_bytes: int
    lanes: tuple[str, ...]
    uncertain: bool
    verdict: dict[str, _Answer]
    device: dict[str, str]
    detector: dict[str, str]
    truth: dict[str, str]
    margin: float | None = None
    box3d: _Solid | None = None


class _File(_Part):
    task: str
    settings: dict[str, str]
    recordings: tuple[_Recording, ...]
    defects: tuple[_Defect, ...]
    items: tuple[_Item, ...]


def read_results(path: Path, task: str = "") -> RunResults:
    """The results in a file, plain or gzipped (`….gz`), of a run of `task`: a name or a file; empty for a bundled one.

    Raises `InputError` naming the file and the key, and for another task than the file's.
    """
    content = read_content(path)
    try:
        found = _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {key}: {first['msg']}; write it again with 'replay run'") from None
    loaded = _task(path, found.task, task)
    if strange := {item.recording for item in found.items} - {one.name for one in found.recordings}:
        raise InputError(f"{path}: items of a recording that is not listed: {min(strange)!r}; run it again")
    items: dict[str, list[ItemResult]] = {one.name: [] for one in found.recordings}
    for item in found.items:
        items[item.recording].append(_item(item))
    recordings = tuple(_recording(one, tuple(items[one.name]), found) for one in found.recordings)
    return RunResults(loaded, recordings, {}, found.settings)


def _task(path: Path, name: str, given: str) -> Task:
    try:
        task = Task.load(given or name)
    except ConfigError as error:
        raise InputError(f"{path}: a run of task {name}: {error}; give the task's file with --task") from None
    if task.name != name:
        raise InputError(f"{path}: a run of task {name}, and {given} is task {task.name}; give its own with --task")
    return task


def read_content(path: Path) -> dict[str, Any]:
    """The file's JSON without its digest, which was checked, as the format was. Raises as `read_results` does."""
    try:
        data = path.read_bytes()
        content = parse_json(gzip.decompress(data) if path.suffix == ".gz" else data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({reason}); give a run's folder or its results.json") from None
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a results file ({error}); write it again with 'replay run'") from None
    if not isinstance(content, dict) or "format" not in content:
        raise InputError(f"{path}: not a results file (it names no format); give a run's folder or its results.json")
    if content["format"] != FORMAT:
        raise InputError(f"{path}: format {content['format']}; this program reads format {FORMAT}; run it again")
    told = content.pop("sha256", None)
    if told != digest(content):
        raise InputError(f"{path}: was changed after it was written (its sha256 does not match); run it again")
    return content


def _recording(one: _Recording, items: tuple[ItemResult, ...], found: _File) -> RecordingResults:
    states = Counter(item.state for item in items)
    counted = {state: states[state] for state in ItemState}
    return RecordingResults(
        name=one.name, source=one.source, samples=(), items=items,
        defects=tuple(DefectResult(**dict(defect)) for defect in found.defects if defect.recording == one.name),
        edge_ledger=LedgerCounts(one.samples, one.gaps, counted), cloud_ledger=None,
        split=one.split, from_s=one.from_s, to_s=one.to_s, damage=one.damage, ages_ms=one.ages_ms,
    )  # fmt: skip


def _item(item: _Item) -> ItemResult:
    return ItemResult(
        id=item.id, sequence=item.sequence, time_ns=item.time_ns, track=item.track, box=Box2D(*item.box),
        label=item.label, score=item.score, state=item.state, reasons=item.reasons, into=item.into,
        state_reason=item.note, evidence_bytes=item.evidence_bytes, maps_bytes=item.maps_bytes, lanes=item.lanes,
        uncertain=item.uncertain,
        verdict={name: SlotAnswer(one.option, one.probabilities) for name, one in item.verdict.items()},
        device_answers=item.device, detector_answers=item.detector, truth_answers=item.truth,
        recording=item.recording, margin=item.margin, box3d=Box3D(*item.box3d) if item.box3d else None,
    )  # fmt: skip
