"""Seen moments as JSON: what was found, from which sensors, and how old those were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.preparation.fusion_spec import BEV, ITEMS
from fusion.recording.part_file import part_file
from fusion.types import Box3D, TruthObject
from fusion.viewing.models import ChosenModel
from fusion.viewing.seen import Part, SeenFrame, SeenObject, SeenSensor

FORMAT = 1
_WEIGHTS = {ITEMS: "fuser.onnx", BEV: "fusion.safetensors"}
"""What is run, by layout."""


def record_of(frames: Sequence[dict[str, Any]], recording: str, chosen: ChosenModel) -> dict[str, Any]:
    """The whole file: units and frames are told in it, so that it stands for itself."""
    digest = hashlib.sha256((chosen.folder / _WEIGHTS[chosen.spec.layout]).read_bytes()).hexdigest()
    return {
        "format": FORMAT,
        "units": "metres, radians, seconds, m/s; boxes and velocities in the ego frame: x forward, y left, z up",
        "recording": recording,
        "task": chosen.task.name,
        "model": {"name": chosen.spec.name, "layout": chosen.spec.layout, "weights_sha256": digest},
        "frames": list(frames),
    }


def frame_record(frame: SeenFrame, *, truth: bool = False) -> dict[str, Any]:
    """One moment; with `truth` what is known of it, None where nobody told."""
    record: dict[str, Any] = {
        "time_ns": frame.time_ns,
        "at_s": frame.at_s,
        "sensors": {sensor.name: _sensor(sensor) for sensor in frame.sensors},
        "heard": None if frame.heard is None else asdict(frame.heard),
        "objects": [_object(one) for one in frame.objects],
    }
    if truth:
        record["truth"] = None if frame.truth is None else [_truth(one) for one in frame.truth]
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write `record`. Raises `RecordingError` when the disk refuses."""
    with part_file(path) as file:
        file.write((json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def _sensor(sensor: SeenSensor) -> dict[str, Any]:
    return {
        "modality": sensor.modality.value,
        "part": sensor.part.value,
        "present": sensor.part is Part.READ,
        "age_s": sensor.age_s,
    } | ({} if sensor.points is None else {"points": sensor.points})


def _object(one: SeenObject) -> dict[str, Any]:
    return {
        "label": one.label,
        "score": one.score,
        "condition": one.condition,
        "condition_score": one.condition_score,
        "asked_score": one.asked_score,
        "box3d": _box(one.box),
        "velocity": None if one.velocity is None else list(one.velocity),
    }


def _truth(one: TruthObject) -> dict[str, Any]:
    return {
        "label": one.label,
        "condition": one.condition,
        "asked_for": one.asked_for,
        "box3d": None if one.box3d is None else _box(one.box3d),
        "velocity": None if one.velocity is None else list(one.velocity),
    }


def _box(box: Box3D) -> dict[str, float]:
    return asdict(box)
