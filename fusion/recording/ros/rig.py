"""Where a robot's sensors sit: `tf_static` and `CameraInfo` as a rig."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.geometry import CameraCalibration, Rig, invert, rigid
from fusion.recording.native.pose import unit_rotation
from fusion.recording.native.rig_messages import FrameTree, read_calibration
from fusion.recording.native.stream import Wanted
from fusion.recording.ros.messages import CAMERA_INFO, OLD_TRANSFORMS, TRANSFORMS, decoded, frame_of, why_not
from fusion.recording.ros.source import RosSource, first_messages
from fusion.types import Float64Array, Modality

_BASES = ("base_link", "ego")
_STILL = 1e-6
"""A transform of `/tf` that never changes by more than this (metres, or parts of a rotation) is a fixed one."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A sensor as its first message tells it: topic, frame and, of a camera, the size of its pictures."""

    modality: Modality
    topic: str
    frame: str
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class RosRig:
    """The rig (None: nothing is placed), and remarks by what they are about."""

    rig: Rig | None
    notes: Mapping[str, str]


def read_rig(source: RosSource, sensors: Mapping[str, Mounted]) -> RosRig:
    """The rig of `sensors` by name, from the bag's fixed transforms and calibrations."""
    placing = [sensor for sensor in sensors.values() if sensor.modality is not Modality.SPEECH]
    if not placing:
        return RosRig(None, {})
    frames = _Frames(source)
    frames.read({sensor.frame for sensor in placing} - {""})
    base = frames.base(placing)
    notes = dict(frames.notes)
    if base:
        notes["frames"] = f"ego is the bag's frame {base!r}{frames.remark}"
    infos = _camera_infos(source)
    cameras: dict[str, CameraCalibration] = {}
    lidars: dict[str, Float64Array] = {}
    for name, sensor in sensors.items():
        if sensor.modality is Modality.SPEECH:
            continue
        try:
            placed = frames.placed(base, sensor.frame)
            if sensor.modality is Modality.LIDAR:
                lidars[name] = placed
            else:
                cameras[name] = _camera(sensor, infos, placed)
        except InputError as error:
            notes[f"calibration of {name}"] = f"not used: {error}"
    return RosRig(Rig(cameras, lidars) if cameras or lidars else None, notes)


@dataclass(slots=True)
class _Frames:
    """The bag's frames: those of `tf_static`, and where these do not do, those that `/tf` never moves."""

    source: RosSource
    tree: FrameTree = field(default_factory=FrameTree)
    notes: dict[str, str] = field(default_factory=dict)
    remark: str = ""

    def read(self, wanted: set[str]) -> None:
        """Fill the tree until the frames `wanted` hang together with a base, if they can.

        `/tf` counts for nothing where `tf_static` joins them with each other and `/tf` joins them to no base.
        """
        for parent, child, placed in self._transforms(static=True):
            self.tree.parents.setdefault(child, (parent, placed))
        if _based(self.tree, wanted):
            return
        moving: set[str] = set()
        still: dict[str, tuple[str, Float64Array]] = {}
        for parent, child, placed in self._transforms(static=False):
            known_parent, known = still.setdefault(child, (parent, placed))
            if known_parent != parent or np.abs(known - placed).max() > _STILL:
                moving.add(child)
        fixed = {child: place for child, place in still.items() if child not in moving | self.tree.parents.keys()}
        whole = FrameTree(self.tree.parents | fixed)
        alone = wanted <= self.tree.names() and _joined(self.tree, wanted)
        if fixed and (_based(whole, wanted) or not alone):
            self.tree = whole
            self.remark = f"; /tf never moves {', '.join(sorted(fixed))}, so they are taken as fixed"

    def base(self, placing: list[Mounted]) -> str:
        """The frame that is taken as ego: `base_link`, `ego`, else the root of the first sensor that has one."""
        if named := _named_base(self.tree, {sensor.frame for sensor in placing}):
            return named
        for sensor in placing:
            try:
                root = self.tree.root(sensor.frame)
            except InputError:
                continue
            if root != sensor.frame:
                return root
        return ""

    def placed(self, base: str, frame: str) -> Float64Array:
        """`ego_from_frame` (4, 4). Raises `InputError` when nothing places the frame."""
        if not frame:
            raise InputError("its messages name no frame")
        found = self.tree.between(base, frame) if base else None
        if found is None:
            raise InputError(f"no fixed transform places its frame {frame!r}" + (f" in {base!r}" if base else ""))
        return found

    def _transforms(self, *, static: bool) -> Iterator[tuple[str, str, Float64Array]]:
        channels = {
            number
            for number, channel in self.source.channels.items()
            if channel.type in {TRANSFORMS, OLD_TRANSFORMS}
            and channel.topic.endswith("tf_static") is static
            and not why_not(channel)
        }
        if not channels & self.source.present:
            return
        for message in self.source.messages(Wanted(channels=frozenset(channels))):
            channel = self.source.channels[message.channel]
            try:
                for transform in decoded(channel, message.data).transforms:
                    yield frame_of(transform.header), transform.child_frame_id.lstrip("/"), _matrix(transform.transform)
            except InputError as error:
                self.notes.setdefault(f"transforms of {channel.topic}", f"message {message.cursor} not used: {error}")


def _named_base(tree: FrameTree, frames: set[str]) -> str:
    """`base_link` or `ego`, the first of them in the tree or among `frames`; empty without one."""
    return next((name for name in _BASES if name in tree.names() | frames), "")


def _based(tree: FrameTree, frames: set[str]) -> bool:
    """Whether the transforms lead from every one of `frames` to a base."""
    base = _named_base(tree, frames)
    return not frames or (bool(base) and _joined(tree, frames | {base}))


def _joined(tree: FrameTree, frames: set[str]) -> bool:
    """Whether the transforms lead from each of `frames` to every other."""
    try:
        return len({tree.root(frame) for frame in frames}) == 1
    except InputError:
        return False


def _matrix(transform: Any) -> Float64Array:
    return rigid_of(transform.translation, transform.rotation)


def rigid_of(move: Any, turn: Any) -> Float64Array:
    """The (4, 4) transform of a translation and a quaternion as ROS has them. Raises `InputError` for what is none."""
    moved = np.array([move.x, move.y, move.z])
    if not np.isfinite(moved).all():
        raise InputError("a translation that is not finite")
    return rigid(unit_rotation(turn.x, turn.y, turn.z, turn.w), moved)


def _camera_infos(source: RosSource) -> list[tuple[str, Any]]:
    """Namespace and first message of each `CameraInfo` topic."""
    wanted = {n for n, channel in source.channels.items() if channel.type == CAMERA_INFO and not why_not(channel)}
    found = []
    for number, message in first_messages(source, wanted).items():
        channel = source.channels[number]
        try:
            found.append((channel.namespace, decoded(channel, message.data)))
        except InputError:
            continue  # a camera that finds no calibration says so
    return found


def _camera(sensor: Mounted, infos: list[tuple[str, Any]], placed: Float64Array) -> CameraCalibration:
    """The calibration beside the topic, else one of the same frame. Raises `InputError` when there is none to use."""
    namespace = sensor.topic.removesuffix("/compressed").rpartition("/")[0]
    beside = [info for place, info in infos if place == namespace]
    info = next(iter(beside or [info for _, info in infos if frame_of(info.header) == sensor.frame]), None)
    if info is None:
        raise InputError("no CameraInfo beside its topic")
    width, height = sensor.size
    if (info.width, info.height) != (width, height):
        raise InputError(f"its CameraInfo is for {info.width}x{info.height}, its pictures are {width}x{height}")
    k, d, r, p = (np.asarray(getattr(info, n, getattr(info, n.upper(), None)), np.float64) for n in "kdrp")
    model = info.distortion_model
    if "rect" in sensor.topic.removesuffix("/compressed").rpartition("/")[2]:
        # A rectified picture is seen by an ideal camera P, turned by R against the real one.
        k, d, model = p.reshape(3, 4)[:, :3].ravel(), np.zeros(0), ""
        turn = r.reshape(3, 3)
        if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3):
            raise InputError("its CameraInfo rectifies by a matrix R that is no rotation")
        placed = placed @ invert(rigid(turn, np.zeros(3)))
    if d.size == 0:
        model = ""
    plain = SimpleNamespace(width=int(info.width), height=int(info.height), K=k, D=d, distortion_model=model)
    return read_calibration(plain, placed)
