"""A nuScenes detection submission: `nuscenes/results.json`.

Format: nuscenes-devkit, `eval/detection/README.md`. Boxes are the device's fused ones with the detector's class and
score, taken from the ego frame of their sweep to the global frame by the data set's own poses.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.evaluation.nuscenes import MAX_BOXES_PER_SAMPLE
from fusion.evaluation.nuscenes_boxes import CLASSES
from fusion.geometry import apply, rotation_z
from fusion.recording.base import EgoPose, PosedReader, RecordingReader
from fusion.recording.native.pose import quaternion
from fusion.recording.part_file import part_file
from fusion.task import Task
from fusion.types import Float64Array, Modality
from replay.export.base import Exported, Openers, UnsuitedError
from replay.export.boxes.moments import Moments, first_camera, items_by_sample, sensor_time_ns
from replay.results.records import ItemResult, RecordingResults, RunResults, SampleResult

FOLDER, NAME = "nuscenes", "results.json"
WITHIN_NS = 50_000_000
"""A sample this far from a keyframe's sweep may still be that keyframe's; cameras fire up to 43 ms before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Keyframe:
    """One sample of nuScenes: the run's sample that stands for it (None: there is none near), and its items."""

    token: str
    sample: SampleResult | None
    items: Sequence[ItemResult]
    map_from_ego: Float64Array


def export(results: RunResults, opened: Openers, out: Path) -> Exported:
    """One submission of all recordings. See `replay.export.base.Exporter`."""
    task = results.task
    _check_task(task)
    boxes: dict[str, list[dict[str, Any]]] = {}
    missing = flat = 0
    for one in results.recordings:
        for keyframe in keyframes(task, one, opened[one.name]()):
            boxes[keyframe.token] = list(_boxes(keyframe))
            missing += keyframe.sample is None
            flat += sum(item.box3d is None for item in keyframe.items)
    if flat and not any(boxes.values()):
        raise UnsuitedError(f"task {task.name}: the device tells no box in space, which is all that nuScenes takes")
    meta = {
        "use_camera": bool(task.of_modality(Modality.CAMERA)),
        "use_lidar": bool(task.of_modality(Modality.LIDAR)),
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    path = out / FOLDER / NAME
    with part_file(path) as file:
        file.write(json.dumps({"meta": meta, "results": boxes}, allow_nan=False).encode() + b"\n")
    notes = [f"{missing} of {len(boxes)} keyframes have no sample near them, and so no box"] if missing else []
    notes += [f"{flat} detections have no box in space and were left out"] if flat else []
    return Exported((path,), tuple(notes))


def keyframes(task: Task, one: RecordingResults, reader: RecordingReader) -> Iterator[Keyframe]:
    """Every keyframe of a recording of nuScenes, in time order. Raises `UnsuitedError` for another recording."""
    names, poses = Moments.of(reader), _poses(reader)
    if reader.info().format != "nuscenes" or not names.names or not poses:
        raise UnsuitedError(f"recording {one.name}: not read from nuScenes, so its moments have no sample tokens")
    items, camera = items_by_sample(one), first_camera(task)
    lidar = next(iter(task.of_modality(Modality.LIDAR)), camera)
    samples = sorted(one.samples, key=lambda sample: sample.time_ns)
    times = [sample.time_ns for sample in samples]
    for time_ns, token in zip(names.times_ns, names.names, strict=True):
        sample = _near(samples, times, time_ns)
        seen_ns = sensor_time_ns(sample, lidar) if sample else time_ns
        pose = min(poses, key=lambda pose: abs(pose.time_ns - seen_ns))
        yield Keyframe(token, sample, items[sample.sequence] if sample else (), pose.map_from_ego)


def _check_task(task: Task) -> None:
    if unknown := sorted({name.replace("-", "_") for name in task.classes} - set(CLASSES)):
        raise UnsuitedError(f"task {task.name}: {', '.join(unknown)} is no class of nuScenes' detection task")


def _poses(reader: RecordingReader) -> list[EgoPose]:
    return list(reader.poses()) if isinstance(reader, PosedReader) else []


def _near(samples: Sequence[SampleResult], times: Sequence[int], time_ns: int) -> SampleResult | None:
    index = bisect_left(times, time_ns)
    near = min(samples[max(0, index - 1) : index + 1], key=lambda s: abs(s.time_ns - time_ns), default=None)
    return near if near and abs(near.time_ns - time_ns) <= WITHIN_NS else None


def _boxes(keyframe: Keyframe) -> Iterator[dict[str, Any]]:
    best = sorted((item for item in keyframe.items if item.box3d), key=lambda item: -item.score)
    for item in best[:MAX_BOXES_PER_SAMPLE]:
        assert item.box3d is not None
        box, turned = item.box3d, keyframe.map_from_ego[:3, :3] @ rotation_z(item.box3d.yaw)
        centre = apply(keyframe.map_from_ego, np.array([[box.x, box.y, box.z]]))[0]
        q = quaternion(turned)
        yield {
            "sample_token": keyframe.token,
            "translation": [float(value) for value in centre],
            "size": [box.width, box.length, box.height],
            "rotation": [q.w, q.x, q.y, q.z],
            "velocity": [0.0, 0.0],
            "detection_name": item.label.replace("-", "_"),
            "detection_score": item.score,
            "attribute_name": "",
        }
