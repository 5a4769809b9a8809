"""`results.json`: what was decided and answered, without anything a clock measured, so equal runs are equal bytes.

    {"format": 2, "sha256": of all the rest, "task": …, "settings": {key: value},
     "recordings": [{"name", "source", "split", "from_s", "to_s", "samples", "gaps", "damage",
                     "ages_ms": {sensor: median age, or null for one mostly absent}}],
     "defects": [{"name", "recording", "label", "condition", "time_ns", "moments", "fate"}],
     "items": [{"id", "recording", "sequence", "time_ns", "track", "box", "label", "score", "state", "reasons", "into",
                "note", "evidence_bytes", "maps_bytes", "lanes", "uncertain", "margin",
                "box3d": [x, y, z, length, width, height, yaw] or null, "verdict": {slot: {"option", "probabilities"}},
                "device": {slot: option}, "detector": {slot: option}, "truth": {slot: option}}]}

`source` is the file's name alone, and so are names in `damage`: the same recording in another folder gives the same
results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from fusion.recording.part_file import part_file
from replay.results.records import DefectResult, ItemResult, RecordingResults, RunResults

FORMAT = 2
NAME = "results.json"


def write_results(results: RunResults, path: Path) -> str:
    """Write the file, an item at a time, whole or not at all; its digest, of everything but the digest in JSON without
    blanks. Raises `RecordingError` naming the file.
    """
    told = hashlib.sha256()
    for piece in _pieces(_content(results), partial(json.dumps, sort_keys=True, separators=(",", ":")), "", ":"):
        told.update(piece.encode())
    content = _content(results) | {"sha256": told.hexdigest()}
    pieces = _pieces(content, partial(json.dumps, sort_keys=True, indent=0), "\n", ": ")
    with part_file(path) as file:
        file.writelines(piece.encode() for piece in pieces)
        file.write(b"\n")
    return told.hexdigest()


def _content(results: RunResults) -> dict[str, Any]:
    """What the file says; lists as what makes them."""
    return {
        "format": FORMAT,
        "task": results.task.name,
        "settings": dict(results.settings),
        "recordings": map(_recording, results.recordings),
        "defects": map(_defect, results.defects),
        "items": map(_item, results.items),
    }


def digest(content: Mapping[str, Any]) -> str:
    """What stands for all of a file but the digest itself."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _pieces(content: Mapping[str, Any], dumps: Callable[[Any], str], line: str, colon: str) -> Iterator[str]:
    """What `dumps` makes of `content`, piece by piece; it ends lines by `line`."""
    yield "{"
    for place, key in enumerate(sorted(content)):
        yield f"{',' if place else ''}{line}{dumps(key)}{colon}"
        if isinstance(content[key], map):
            yield from _elements(content[key], dumps, line)
        else:
            yield dumps(content[key])
    yield f"{line}}}"


def _elements(values: Iterable[Any], dumps: Callable[[Any], str], line: str) -> Iterator[str]:
    yield "["
    ends = ""
    for place, value in enumerate(values):
        yield f"{',' if place else ''}{line}{dumps(value)}"
        ends = line
    yield f"{ends}]"


def _recording(one: RecordingResults) -> dict[str, Any]:
    return {
        "name": one.name,
        "source": PurePath(one.source).name,
        "split": one.split,
        "from_s": one.from_s,
        "to_s": one.to_s,
        "samples": one.edge_ledger.samples,
        "gaps": one.edge_ledger.gaps,
        "damage": one.damage.replace(f"{PurePath(one.source).parent}/", ""),
        "ages_ms": dict(one.ages_ms),
    }


def _defect(defect: DefectResult) -> dict[str, Any]:
    return {
        "name": defect.name,
        "recording": defect.recording,
        "label": defect.label,
        "condition": defect.condition,
        "time_ns": defect.time_ns,
        "moments": defect.moments,
        "fate": defect.fate.value,
    }


def _item(item: ItemResult) -> dict[str, Any]:
    return {
        "id": item.id,
        "recording": item.recording,
        "sequence": item.sequence,
        "time_ns": item.time_ns,
        "track": item.track,
        "box": [item.box.x1, item.box.y1, item.box.x2, item.box.y2],
        "label": item.label,
        "score": item.score,
        "state": item.state.value,
        "reasons": list(item.reasons),
        "into": item.into,
        "note": item.state_reason,
        "evidence_bytes": item.evidence_bytes,
        "maps_bytes": item.maps_bytes,
        "lanes": list(item.lanes),
        "uncertain": item.uncertain,
        "margin": item.margin,
        "box3d": [round(value, 4) for value in astuple(item.box3d)] if item.box3d else None,
        "verdict": {
            name: {"option": answer.option, "probabilities": dict(answer.probabilities)}
            for name, answer in item.verdict.items()
        },
        "device": dict(item.device_answers),
        "detector": dict(item.detector_answers),
        "truth": dict(item.truth_answers),
    }
