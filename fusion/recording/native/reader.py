"""The native format: MCAP with Foxglove's protobuf schemas, ours or anyone's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform

from fusion.errors import InputError, RecordingError
from fusion.recording.base import EgoPose, RecordingInfo, SensorInfo
from fusion.recording.native.index import Index, read_index
from fusion.recording.native.rig_messages import read_pose
from fusion.recording.native.schemas import LAST_NS, METADATA, NOT_CONTINUOUS, decoded, time_of
from fusion.recording.native.sensor_messages import read_audio, read_cloud, read_image
from fusion.recording.native.stream import EVERYTHING, MAGIC, MessageScan, RawMessage, Wanted, opened
from fusion.recording.native.survey import Survey, by_index, by_scan
from fusion.recording.native.truth_messages import read_truth
from fusion.recording.ros.mcap_bag import speaks_ros
from fusion.task import Task
from fusion.types import Modality, Payload, Reading, Truth


class McapReader:
    """Reads an MCAP file.

    Capture times are the messages' own stamps; `info` tells log times, which the index has (in our files, the same).
    A file that is cut off or damaged is refused with one line; with `salvage` everything before the damage is
    read, chunk by whole chunk, and `info().damage` says what is lost. `dropped_points` counts LiDAR points left
    out for not being finite.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self._path = path
        self._salvage = salvage
        self._index = Index() if salvage else read_index(path)
        self.dropped_points = 0

    @staticmethod
    def can_read(path: Path) -> bool:
        """A file called `.mcap`, or that begins like one, unless it holds ROS messages: another reader's."""
        try:
            with path.open("rb") as file:
                begins = file.read(len(MAGIC)) == MAGIC
        except OSError:
            return False
        return (begins or path.suffix == ".mcap") and not speaks_ros(path)

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open `path`; a `task` must share a sensor with it. Raises `RecordingError`."""
        if split is not None:
            raise RecordingError(f"{path}: an MCAP recording has no splits; leave out '{split}'")
        reader = cls(path, salvage=salvage)
        if task is not None:
            names = {name for name, _ in reader.survey.sensors.values()}
            if not names & task.sensors.keys():
                has = ", ".join(sorted(names)) or "none that can be read"
                raise RecordingError(f"{path}: no sensor of task {task.name} ({', '.join(task.sensors)}); it has {has}")
        return reader

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @cached_property
    def survey(self) -> Survey:
        """Channels, times and openings: from the index, else from one pass over the file."""
        if self._index.complete:
            return by_index(self._path, self._index)
        return by_scan(self._path, salvage=self._salvage)

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256()
        with opened(self._path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def info(self) -> RecordingInfo:
        """What the file holds. Raises `RecordingError`."""
        survey = self.survey
        try:
            rig, problems = survey.rig()
        except InputError as error:
            raise RecordingError(f"{self._path}: the calibration or transforms cannot be read: {error}") from None
        notes = dict(survey.metadata.get(METADATA, {}))
        continuous = not NOT_CONTINUOUS.items() <= notes.items()
        notes.pop("continuous", "")
        return RecordingInfo(
            path=self._path,
            format="mcap",
            content_sha256=self._sha256,
            byte_size=self._path.stat().st_size,
            task=notes.pop("task", ""),
            sensors=self._sensors(continuous=continuous),
            rig=rig,
            truths=sum(len(survey.times.get(number, ())) for number in survey.truth_channels),
            notes=notes | {f"calibration of {name}": f"not used: {problem}" for name, problem in problems.items()},
            unread=survey.unread,
            damage=survey.damage,
            continuous=continuous,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each sensor's messages before the chunks' compression; verifies every checksum on the way."""
        sensors = self.survey.sensors
        found = {name: 0 for name, _ in sensors.values()}
        for message in self._messages(EVERYTHING):
            if message.channel in sensors:
                found[sensors[message.channel][0]] += len(message.data)
        return found

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """Readings in file order; a cursor is a message's number in the file, counted from 1 over all topics."""
        survey = self.survey
        sensors, kinds = survey.sensors, survey.kinds
        if not sensors:
            topics = ", ".join(survey.unread) or "none"
            raise RecordingError(
                f"{self._path}: no camera, LiDAR or sound in Foxglove's protobuf schemas; topics: {topics}"
            )
        for message in self._messages(Wanted(start_cursor, frozenset(sensors))):
            name, modality = sensors[message.channel]
            with self._blaming(message):
                content = decoded(kinds[message.channel], message.data)
                time_ns = time_of(content, message.time_ns)
                reading = Reading(name, modality, time_ns, self._payload(modality, content))
            yield message.cursor, reading

    def truth(self) -> Iterator[Truth]:
        """The moments of `/truth`; nothing when there is no such topic."""
        channels, kinds = self.survey.truth_channels, self.survey.kinds
        if not channels:
            return
        for message in self._messages(Wanted(channels=channels)):
            with self._blaming(message):
                moment = read_truth(decoded(kinds[message.channel], message.data), message.time_ns)
            yield moment

    def poses(self) -> Iterator[EgoPose]:
        """Transforms of `ego` in `map`, in file order."""
        survey = self.survey
        channels = frozenset(number for number, kind in survey.kinds.items() if kind is FrameTransform)
        for message in self._messages(Wanted(channels=channels)) if channels else ():
            with self._blaming(message):
                pose = read_pose(decoded(FrameTransform, message.data), message.time_ns)
            if pose is not None:
                yield pose

    def _sensors(self, *, continuous: bool) -> dict[str, SensorInfo]:
        survey = self.survey
        times = {number: [min(time, LAST_NS) for time in found] for number, found in survey.times.items()}
        found = {
            name: SensorInfo.of_times(
                modality, survey.channels[number].topic, times.get(number, []), continuous=continuous
            )
            for number, (name, modality) in survey.sensors.items()
        }
        return dict(sorted(found.items(), key=lambda pair: (list(Modality).index(pair[1].modality), pair[0])))

    def _messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        index = self._index
        scan = MessageScan(self._path, index.places, dict(index.channels), dict(index.schemas))
        try:
            yield from scan.messages(wanted)
        except RecordingError:
            if not self._salvage:
                raise

    def _payload(self, modality: Modality, content: Any) -> Payload:
        if modality is Modality.CAMERA:
            return read_image(content)
        if modality is Modality.SPEECH:
            return read_audio(content)
        cloud, dropped = read_cloud(content)
        self.dropped_points += dropped
        return cloud

    @contextmanager
    def _blaming(self, message: RawMessage) -> Iterator[None]:
        """Bad content becomes an error that says which message of which topic it is in."""
        try:
            yield
        except InputError as error:
            topic = self.survey.channels[message.channel].topic
            place = f"message {message.cursor} ({topic}) at byte {message.offset}"
            raise RecordingError(f"{self._path}: {place}: {error}") from None
