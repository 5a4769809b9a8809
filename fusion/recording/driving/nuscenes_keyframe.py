"""Keyframes of nuScenes as one `info.json` tells them, in the form MMDetection3D makes of the tables (version 1.1).

One entry of `data_list` is a keyframe: six pictures and a sweep with their times and calibration, and its boxes, which
are in the LiDAR's frame: x, y, z of the centre, size along x, y, z, yaw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig, rigid, rotation_z
from fusion.recording.base import EgoPose
from fusion.recording.driving.dataset import (
    Dataset,
    Report,
    StoredReading,
    capture_order,
    load_picture,
    picture_size,
    read_file,
)
from fusion.recording.driving.json_node import Node
from fusion.recording.driving.nuscenes_files import (
    LICENCE,
    LIDAR,
    OTHER,
    RING,
    box_in_ego,
    camera_of,
    dashed,
    file_in,
    load_scan,
    matrix_of,
    micros_ns,
    velocity_in_ego,
)
from fusion.types import Float64Array, Modality, Truth, TruthObject

INFO = "info.json"
_SAME = 1e-6
_TOKENS = 3


def plan_keyframes(path: Path, problems: list[str], report: Report) -> Dataset:
    """The keyframes of `path/info.json`. Raises `RecordingError` naming the value that is missing or wrong."""
    info = _parsed(path / INFO)
    keyframes = info["data_list"].elements()
    if not keyframes:
        raise RecordingError(f"{path / INFO}: there is no keyframe in data_list")
    rig = _one_rig([_rig(path, keyframe) for keyframe in keyframes], keyframes)
    stored = capture_order(reading for keyframe in keyframes for reading in _stored(path, keyframe, report))
    truths = list(_truths(keyframes, info["metainfo"]["categories"]))
    poses = [EgoPose(_time_ns(keyframe), matrix_of(keyframe["ego2global"])) for keyframe in keyframes]
    used = {one.sensor: one.modality for one in stored}
    tokens = ", ".join(keyframe["token"].text() for keyframe in keyframes[:_TOKENS])
    return Dataset(
        path=path,
        format="nuscenes",
        readings=stored,
        loaders={name: load_picture if kind is Modality.CAMERA else load_scan for name, kind in used.items()},
        sources={name: name.upper().replace("-", "_") for name in used},
        rig=rig,
        truth=lambda _sound, _report: iter(truths),
        truths=len(truths),
        notes={
            "source": f"nuScenes, {len(keyframes)} keyframes: {tokens}",
            "licence": LICENCE,
            "poses": f"{len(poses)} of the ego frame, the map being nuScenes' global frame",
        },
        side_files=(path / INFO,),
        unread=(RING,),
        problems=tuple(problems),
        continuous=False,
        names={_time_ns(keyframe): keyframe["token"].text() for keyframe in keyframes},
        poses=lambda: iter(poses),
    )


def _parsed(path: Path) -> Node:
    try:
        return Node(json.loads(read_file(path)), str(path))
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: not JSON ({error})") from None


def _time_ns(keyframe: Node) -> int:
    return micros_ns(keyframe["timestamp"], in_seconds=True)


def _stored(root: Path, keyframe: Node, report: Report) -> Iterator[StoredReading]:
    """Sweep and pictures of a keyframe, of those files that are there."""
    sweep = file_in(root, keyframe["lidar_points"]["lidar_path"])
    found = [StoredReading(_time_ns(keyframe), dashed(LIDAR), Modality.LIDAR, (sweep,))]
    for channel, image in keyframe["images"].items():
        time_ns = micros_ns(image["timestamp"], in_seconds=True)
        picture = file_in(root, image["img_path"])
        found.append(StoredReading(time_ns, dashed(channel), Modality.CAMERA, (picture,)))
    for one in found:
        if one.files[0].is_file():
            yield one
        else:
            report(f"{one.files[0]}: no such file, though {keyframe.place} names it")


def _rig(root: Path, keyframe: Node) -> Rig:
    cameras = {}
    for channel, image in keyframe["images"].items():
        picture = file_in(root, image["img_path"])
        if picture.is_file():
            ego_from_camera = matrix_of(image["cam2ego"])
            cameras[dashed(channel)] = camera_of(image["cam2img"], picture_size(picture), ego_from_camera)
    return Rig(cameras, {dashed(LIDAR): matrix_of(keyframe["lidar_points"]["lidar2ego"])})


def _one_rig(rigs: list[Rig], keyframes: list[Node]) -> Rig:
    """The cameras of all keyframes, which must agree: a recording has one rig."""
    whole = rigs[0]
    for rig, keyframe in zip(rigs[1:], keyframes[1:], strict=True):
        for name, camera in rig.cameras.items():
            known = whole.cameras.get(name, camera)
            if not _agree((camera.k, known.k), (camera.ego_from_camera, known.ego_from_camera)):
                raise RecordingError(f"{keyframe.place}: {name} is calibrated otherwise than in keyframes before it")
        lidar = dashed(LIDAR)
        if not _agree((rig.ego_from_lidar[lidar], whole.ego_from_lidar[lidar])):
            raise RecordingError(f"{keyframe.place}: {lidar} is placed otherwise than in keyframes before it")
        whole = Rig({**rig.cameras, **whole.cameras}, whole.ego_from_lidar)
    return whole


def _agree(*pairs: tuple[Float64Array, Float64Array]) -> bool:
    return all(np.allclose(one, other, atol=_SAME) for one, other in pairs)


def _truths(keyframes: list[Node], categories: Node) -> Iterator[Truth]:
    """The boxes of each keyframe in its ego frame; `track` numbers all of them, as identity is not told."""
    labels = {int(index.number()): dashed(name) for name, index in categories.items()}
    track = 1
    for keyframe in keyframes:
        ego_from_lidar = matrix_of(keyframe["lidar_points"]["lidar2ego"])
        objects = []
        for instance in keyframe["instances"].elements():
            label = labels.get(int(instance["bbox_label_3d"].number()), OTHER)
            objects.append(_object(track, label, instance, ego_from_lidar))
            track += 1
        yield Truth(_time_ns(keyframe), tuple(objects))


def _object(track: int, label: str, instance: Node, ego_from_lidar: Float64Array) -> TruthObject:
    x, y, z, length, width, height, yaw = (float(v) for v in instance["bbox_3d"].array(7))
    ego_from_box = ego_from_lidar @ rigid(rotation_z(yaw), np.array([x, y, z]))
    velocity = velocity_in_ego(ego_from_lidar, instance["velocity"].numbers(2)) if "velocity" in instance else None
    return TruthObject(track, label, box3d=box_in_ego(ego_from_box, length, width, height), velocity=velocity)
