"""One scene of nuScenes' tables (schema v1.0) as a recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fusion.errors import RecordingError
from fusion.geometry import CameraCalibration, Rig, invert
from fusion.recording.base import EgoPose
from fusion.recording.driving.dataset import Dataset, Report, StoredReading, capture_order, load_picture
from fusion.recording.driving.json_node import Node
from fusion.recording.driving.nuscenes_files import (
    LICENCE,
    LIDAR,
    RING,
    box_in_ego,
    camera_of,
    dashed,
    file_in,
    label_of,
    load_scan,
    micros_ns,
    transform_of,
    velocity_in_ego,
)
from fusion.recording.driving.nuscenes_tables import SceneTables
from fusion.types import Float64Array, Modality, Truth, TruthObject

_MODALITIES = {"camera": Modality.CAMERA, "lidar": Modality.LIDAR}
_SEEN = {"v0-40": 0.2, "v40-60": 0.5, "v60-80": 0.7, "v80-100": 0.9}
"""Visibility levels, as the middle of their range."""
_LONGEST_S = 1.5
"""Between two labels of an object; over longer stretches no velocity is told, as in the data set's own tools."""


def plan_scene(root: Path, tables: SceneTables, problems: list[str], report: Report) -> Dataset:
    """The scene of `tables`, its files under `root`. Raises `RecordingError` naming the record that is wrong."""
    scene = _Scene(root, tables)
    stored = capture_order(scene.stored(report))
    used = {one.sensor: one.modality for one in stored}
    truths, poses = scene.truths(), scene.poses()
    notes = {
        "source": f"nuScenes {tables.folder.name} {tables.name}",
        "licence": LICENCE,
        "poses": f"{len(poses)} of the ego frame, the map being nuScenes' global frame",
    }
    if not scene.has_sweeps:
        notes["sweeps"] = "there is no folder sweeps/: keyframes only"
    return Dataset(
        path=root,
        format="nuscenes",
        readings=stored,
        loaders={name: load_picture if kind is Modality.CAMERA else load_scan for name, kind in used.items()},
        sources={name: name.upper().replace("-", "_") for name in used},
        rig=scene.rig(),
        truth=lambda _sound, _report: iter(truths),
        truths=len(truths),
        notes=notes,
        facts=tables.facts(),
        unread=(RING, *scene.unread),
        problems=tuple(problems),
        names=scene.names(),
        poses=lambda: iter(poses),
    )


class _Scene:
    """The rows of a scene, put together: which sensor a row of `sample_data` is of, and what is made of it."""

    def __init__(self, root: Path, tables: SceneTables) -> None:
        self._root, self._tables = root, tables
        self._calibration = {
            t: tables.find(tables.calibrations, r["calibrated_sensor_token"]) for t, r in tables.data.items()
        }
        self._sensor = {t: tables.find(tables.sensors, r["sensor_token"]) for t, r in self._calibration.items()}
        self.has_sweeps = (root / "sweeps").is_dir()

    @property
    def unread(self) -> list[str]:
        """Channels that are neither cameras nor LiDARs."""
        told = {(sensor["channel"].text(), sensor["modality"].text()) for sensor in self._sensor.values()}
        return [f"{channel} ({modality})" for channel, modality in sorted(told) if modality not in _MODALITIES]

    def stored(self, report: Report) -> Iterator[StoredReading]:
        """Pictures and sweeps, of those files that are there."""
        for token, row in self._tables.data.items():
            modality = _MODALITIES.get(self._sensor[token]["modality"].text())
            if modality is None:
                continue
            path = file_in(self._root, row["filename"])
            if path.is_file():
                name = dashed(self._sensor[token]["channel"].text())
                yield StoredReading(micros_ns(row["timestamp"]), name, modality, (path,))
            elif self.has_sweeps or _is_keyframe(row):
                report(f"{path}: no such file, though {row.place} names it")

    def rig(self) -> Rig:
        """Where cameras and LiDAR sit; raises `RecordingError` for one that is calibrated in two ways."""
        cameras: dict[str, CameraCalibration] = {}
        lidars: dict[str, Float64Array] = {}
        used: dict[str, Node] = {}
        for token, row in self._tables.data.items():
            calibration, sensor = self._calibration[token], self._sensor[token]
            name, kind = dashed(sensor["channel"].text()), sensor["modality"].text()
            if used.setdefault(name, calibration) is not calibration:
                raise RecordingError(f"{row.place}: {name} is calibrated otherwise than before in this scene")
            if kind == "camera" and name not in cameras:
                size = (int(row["width"].number()), int(row["height"].number()))
                cameras[name] = camera_of(calibration["camera_intrinsic"], size, transform_of(calibration))
            elif kind == "lidar" and name not in lidars:
                lidars[name] = transform_of(calibration)
        return Rig(cameras, lidars)

    def poses(self) -> list[EgoPose]:
        """The ego pose of each sweep, in time order."""
        rows = (row for token, row in self._tables.data.items() if self._sensor[token]["channel"].text() == LIDAR)
        found = [EgoPose(micros_ns(row["timestamp"]), self._map_from_ego(row)) for row in rows]
        return sorted(found, key=lambda pose: pose.time_ns)

    def truths(self) -> list[Truth]:
        """The boxes of each sample in its ego frame, when its sweep was taken; an object keeps its track."""
        sweeps = self._sweeps()
        boxes: dict[str, list[Node]] = {token: [] for token in self._tables.samples}
        for annotation in self._tables.annotations.values():
            boxes[annotation["sample_token"].text()].append(annotation)
        tracks: dict[str, int] = {}
        found = []
        for token, sample in sorted(self._tables.samples.items(), key=lambda item: micros_ns(item[1]["timestamp"])):
            if token not in sweeps:
                raise RecordingError(f"{sample.place}: sample {token} has no keyframe of {LIDAR}")
            ego_from_map = invert(self._map_from_ego(sweeps[token]))
            objects = tuple(self._object(annotation, ego_from_map, tracks) for annotation in boxes[token])
            found.append(Truth(micros_ns(sweeps[token]["timestamp"]), objects))
        return found

    def names(self) -> dict[int, str]:
        """The samples' tokens by the times of their sweeps."""
        return {micros_ns(row["timestamp"]): token for token, row in self._sweeps().items()}

    def _sweeps(self) -> dict[str, Node]:
        """The row of each sample's sweep, by the sample's token."""
        return {
            row["sample_token"].text(): row
            for token, row in self._tables.data.items()
            if _is_keyframe(row) and self._sensor[token]["channel"].text() == LIDAR
        }

    def _map_from_ego(self, row: Node) -> Float64Array:
        return transform_of(self._tables.find(self._tables.poses, row["ego_pose_token"]))

    def _object(self, annotation: Node, ego_from_map: Float64Array, tracks: dict[str, int]) -> TruthObject:
        tables = self._tables
        width, length, height = (float(v) for v in annotation["size"].array(3))
        category = tables.find(
            tables.categories, tables.find(tables.instances, annotation["instance_token"])["category_token"]
        )
        doing = (
            tables.find(tables.attributes, token)["name"].text() for token in annotation["attribute_tokens"].elements()
        )
        seen = annotation["visibility_token"]
        level = tables.find(tables.visibilities, seen)["level"].text() if seen.value else ""
        return TruthObject(
            track=tracks.setdefault(annotation["instance_token"].text(), len(tracks) + 1),
            label=label_of(category["name"].text()),
            condition=", ".join(dashed(name.rpartition(".")[2]) for name in doing) or None,
            box3d=box_in_ego(ego_from_map @ transform_of(annotation), length, width, height),
            visibility=_SEEN.get(level, 1.0),
            velocity=self._velocity(annotation, ego_from_map),
        )

    def _velocity(self, annotation: Node, ego_from_map: Float64Array) -> tuple[float, float] | None:
        """From the label before to the label after, of those there are, as the data set's own tools do."""
        ends = [
            self._tables.find(self._tables.annotations, annotation[side]) if annotation[side].value else annotation
            for side in ("prev", "next")
        ]
        before, after = (self._tables.find(self._tables.samples, end["sample_token"])["timestamp"] for end in ends)
        seconds = (micros_ns(after) - micros_ns(before)) / 1e9
        sides = sum(end is not annotation for end in ends)
        if not 0 < seconds <= _LONGEST_S * sides:
            return None
        moved = ends[1]["translation"].array(3) - ends[0]["translation"].array(3)
        return velocity_in_ego(ego_from_map, moved / seconds)


def _is_keyframe(row: Node) -> bool:
    return row["is_key_frame"].value is True
