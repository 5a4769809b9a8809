"""COCO's files: `coco/instances.json` (pictures, categories, truth) and `coco/detections.json` (results).

Format: https://cocodataset.org/#format-data and #format-results. Truth is what `summary.json` judges the detector by:
objects of the task's classes that can be seen. Detections are the device's detector's, before any review.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fusion.recording.base import RecordingReader
from fusion.recording.part_file import part_file
from fusion.task import Task
from fusion.types import Box2D
from replay.export.base import Exported, Openers, UnsuitedError
from replay.export.boxes.moments import (
    Moments,
    first_camera,
    items_by_sample,
    picture_sizes,
    sensor_time_ns,
    tells_truth,
)
from replay.results.records import ItemResult, RecordingResults, RunResults, SampleResult
from replay.results.summary import counts_as_seen

FOLDER, TRUTH, DETECTIONS = "coco", "instances.json", "detections.json"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the run: its entry in `images`, with the sample and the items that were found in it."""

    entry: Mapping[str, Any]
    sample: SampleResult
    items: list[ItemResult]


def export(results: RunResults, opened: Openers, out: Path) -> Exported:
    """Both files of the whole run. See `replay.export.base.Exporter`."""
    task, camera = results.task, first_camera(results.task)
    if not camera:
        raise UnsuitedError(f"task {task.name} has no camera, so nothing lies in a picture")
    judged = [one for one in results.recordings if tells_truth(one)]
    chosen = judged or list(results.recordings)
    found = [p for one in chosen for p in _pictures(one, opened[one.name](), camera)]
    kept = [picture for picture in found if not judged or picture.sample.truths is not None]
    pictures = _numbered(kept)
    folder = out / FOLDER
    write_truth(task, pictures, folder / TRUTH)
    with part_file(folder / DETECTIONS) as file:
        _write_array(file, _detections(task, pictures))
    return Exported((folder / TRUTH, folder / DETECTIONS), tuple(_notes(results, judged, len(found) - len(kept))))


def write_truth(task: Task, pictures: Iterable[Picture], path: Path) -> None:
    """Write pictures, categories and annotations. Raises `RecordingError` naming the file."""
    pictures = list(pictures)
    head = {
        "info": {"description": f"{task.title}, as replayed", "contributor": task.source},
        "licenses": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(task.classes, 1)],
    }
    with part_file(path) as file:
        file.write(json.dumps(head).encode().removesuffix(b"}") + b',\n"images": ')
        _write_array(file, (picture.entry for picture in pictures))
        file.write(b',\n"annotations": ')
        _write_array(file, _annotations(task, pictures))
        file.write(b"}\n")


def _notes(results: RunResults, judged: list[RecordingResults], unknown: int) -> Iterator[str]:
    if not judged:
        yield f"no recording tells any truth, so {TRUTH} has no annotations"
    elif len(judged) < len(results.recordings):
        names = ", ".join(one.name for one in results.recordings if one not in judged)
        yield f"without {names}, of which no truth is told"
    if unknown:
        yield f"without {unknown} samples at which no truth is told"


def _pictures(one: RecordingResults, reader: RecordingReader, camera: str) -> Iterator[Picture]:
    names, sizes, items = Moments.of(reader), picture_sizes(reader, camera), items_by_sample(one)
    for sample in one.samples:
        time_ns = sensor_time_ns(sample, camera)
        width, height = sizes(time_ns)
        name = names.nearest(time_ns) or f"{one.name}/{sample.sequence:08d}"
        entry = {"file_name": name, "width": width, "height": height, "recording": one.name, "time_ns": time_ns}
        yield Picture(entry, sample, items[sample.sequence])


def _numbered(pictures: list[Picture]) -> list[Picture]:
    """The pictures with ids: COCO's own where all are called by them (`000000000025.jpg`), else from 1."""
    stems = [PurePosixPath(str(picture.entry["file_name"])).stem for picture in pictures]
    named = all(stem.isdecimal() and stem.isascii() for stem in stems) and len(set(map(int, stems))) == len(stems)
    ids = [int(stem) for stem in stems] if named and all("." in p.entry["file_name"] for p in pictures) else None
    return [
        Picture({"id": ids[index] if ids else index + 1, **picture.entry}, picture.sample, picture.items)
        for index, picture in enumerate(pictures)
    ]


def _annotations(task: Task, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
    number = 0
    for picture in pictures:
        for thing in picture.sample.truths or ():
            if thing.box2d is not None and counts_as_seen(task, thing):
                number += 1
                yield {
                    "id": number,
                    "image_id": picture.entry["id"],
                    "category_id": task.classes.index(thing.label) + 1,
                    "bbox": _xywh(thing.box2d),
                    "area": thing.box2d.area,
                    "iscrowd": 0,
                }


def _detections(task: Task, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
    for picture in pictures:
        for item in picture.items:
            yield {
                "image_id": picture.entry["id"],
                "category_id": task.classes.index(item.label) + 1,
                "bbox": _xywh(item.box),
                "score": item.score,
            }


def _xywh(box: Box2D) -> list[float]:
    return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]


def _write_array(file: BinaryIO, values: Iterable[Mapping[str, Any]]) -> None:
    """A JSON array, a line a value."""
    before = b"[\n"
    for value in values:
        file.write(before + json.dumps(value, separators=(",", ":")).encode())
        before = b",\n"
    file.write(b"\n]" if before != b"[\n" else b"[]")
