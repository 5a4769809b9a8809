"""Writes the native format: MCAP with Foxglove's protobuf schemas, in zstd chunks with every checksum on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud as PointCloudMessage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from mcap.writer import CompressionType, Writer

from fusion.errors import InputError, RecordingError
from fusion.geometry import Rig
from fusion.recording.base import EgoPose
from fusion.recording.native.rig_messages import calibration_message, pose_message, transform_messages
from fusion.recording.native.schemas import (
    ENCODING,
    FOLDERS,
    METADATA,
    NOT_CONTINUOUS,
    TRANSFORM_TOPIC,
    TRUTH_TOPIC,
    descriptor_set,
    stamp,
)
from fusion.recording.native.sensor_messages import audio_message, cloud_message, image_message
from fusion.recording.native.truth_messages import truth_message
from fusion.recording.part_file import part_file
from fusion.types import AudioChunk, Image, Modality, PointCloud, Truth

CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class RecordingWriter(AbstractContextManager["RecordingWriter"]):
    """A recording in the making: `with RecordingWriter(path, rig, "yard") as writer: writer.camera(...)`.

    The file appears under its name when the block ends well, and not at all otherwise. Messages are stored in
    the order of the calls; times are integer nanoseconds. The rig is written before the first message, with its
    time. Pictures that carry their encoded bytes are stored as they are, others as JPEG of `jpeg_quality`
    (1..100). `point_grid_m` > 0 rounds LiDAR points to that grid, which about halves them on disk. `continuous`
    says whether readings follow each other in time. Raises `InputError` for values that cannot be stored,
    `RecordingError` for a disk that refuses.
    """

    def __init__(
        self,
        path: Path,
        rig: Rig | None,
        task_name: str,
        *,
        jpeg_quality: int = 90,
        point_grid_m: float = 0.0,
        notes: Mapping[str, str] | None = None,
        continuous: bool = True,
    ) -> None:
        if not 1 <= jpeg_quality <= 100:
            raise InputError(f"JPEG quality {jpeg_quality} is outside 1..100")
        if not 0 <= point_grid_m <= 1:
            raise InputError(f"a point grid of {point_grid_m} m; 0 (off) to 1 m is possible")
        self.path = path
        self._rig = rig
        self._metadata = {"task": task_name, **(notes or {})} | ({} if continuous else NOT_CONTINUOUS)
        self._quality, self._grid_m = jpeg_quality, point_grid_m
        self._owner: dict[str, Modality] = {}
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._count = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        file = self._stack.enter_context(part_file(self.path))
        self._writer: Any = Writer(
            file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD, enable_crcs=True, enable_data_crcs=True
        )
        self._writer.start(library="fusion-stack")
        self._writer.add_metadata(METADATA, self._metadata)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if not self._count:
                raise RecordingError(f"{self.path}: nothing was recorded, so no file is made")
            self._writer.finish()

    def camera(self, name: str, time_ns: int, image: Image) -> None:
        """A picture of camera `name`."""
        topic = self._topic(name, Modality.CAMERA)
        self._add(topic, CompressedImage, time_ns, image_message(name, time_ns, image, self._quality))

    def lidar(self, name: str, time_ns: int, cloud: PointCloud) -> None:
        """A sweep of LiDAR `name`, in its own frame."""
        topic = self._topic(name, Modality.LIDAR)
        self._add(topic, PointCloudMessage, time_ns, cloud_message(name, time_ns, cloud, self._grid_m))

    def audio(self, name: str, time_ns: int, chunk: AudioChunk) -> None:
        """Sound of microphone `name`; `time_ns` is that of its first sample."""
        self._add(self._topic(name, Modality.SPEECH), RawAudio, time_ns, audio_message(time_ns, chunk))

    def truth(self, truth: Truth) -> None:
        """What is true at `truth.time_ns`."""
        self._add(TRUTH_TOPIC, SceneUpdate, truth.time_ns, truth_message(truth))

    def pose(self, pose: EgoPose) -> None:
        """Where the ego frame was."""
        self._add(TRANSFORM_TOPIC, FrameTransform, pose.time_ns, pose_message(pose))

    def _topic(self, name: str, modality: Modality) -> str:
        if not _NAME.fullmatch(name):
            raise InputError(f"sensor name {name!r} is not made of a-z, 0-9 and dashes")
        if self._owner.setdefault(name, modality) is not modality:
            raise InputError(f"sensor {name!r} is a {self._owner[name]} already, and cannot be a {modality} too")
        return f"/{FOLDERS[modality]}/{name}"

    def _add(self, topic: str, kind: Any, time_ns: int, message: Any) -> None:
        stamp(time_ns)
        if not self._count:
            self._write_rig(time_ns)
        self._write(topic, kind, time_ns, message)

    def _write_rig(self, time_ns: int) -> None:
        if self._rig is None:
            return
        for name, camera in self._rig.cameras.items():
            topic = f"{self._topic(name, Modality.CAMERA)}/calibration"
            self._write(topic, CameraCalibration, time_ns, calibration_message(name, camera, time_ns))
        for message in transform_messages(self._rig, time_ns):
            self._write(TRANSFORM_TOPIC, FrameTransform, time_ns, message)

    def _write(self, topic: str, kind: Any, time_ns: int, message: Any) -> None:
        if topic not in self._channels:
            name = kind.DESCRIPTOR.full_name
            if name not in self._schemas:
                self._schemas[name] = self._writer.register_schema(name, ENCODING, descriptor_set(kind))
            self._channels[topic] = self._writer.register_channel(topic, ENCODING, self._schemas[name])
        data = message.SerializeToString(deterministic=True)
        self._count += 1
        self._writer.add_message(self._channels[topic], time_ns, data, time_ns, sequence=self._count & 0xFFFFFFFF)
