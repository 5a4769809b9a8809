"""The native format: MCAP with Foxglove's protobuf schemas, ours or anyone's."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform

from fusion.errors import InputError, RecordingError
from fusion.recording.base import EMPTY, EgoPose, RecordingInfo, SensorInfo
from fusion.recording.content import content_of
from fusion.recording.damage import DamageLog
from fusion.recording.native.index import Index, peek_index, read_index
from fusion.recording.native.rig_messages import read_pose
from fusion.recording.native.schemas import LAST_NS, METADATA, NOT_CONTINUOUS, decoded, time_of
from fusion.recording.native.sensor_messages import read_audio, read_cloud, read_image
from fusion.recording.native.stream import EVERYTHING, MAGIC, MessageScan, RawMessage, Wanted
from fusion.recording.native.survey import Survey, by_index, by_scan
from fusion.recording.native.truth_messages import read_truth
from fusion.recording.ros.mcap_bag import speaks_ros
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.task import Task
from fusion.types import Modality, Payload, Reading, Truth

_Content = TypeVar("_Content")


class McapReader:
    """Reads an MCAP file.

    Capture times are the messages' own stamps; `info` tells log times, which the index has (in our files, the same).
    A file that is cut off or damaged is refused with one line; with `salvage` damaged chunks, messages that cannot be
    decoded and everything after the last sound chunk are left out, and `info().damage` says what. `dropped_points`
    counts LiDAR points left out for not being finite.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self._path = path
        self._salvage = salvage
        self._index = Index() if salvage else read_index(path)
        self._peeked = peek_index(path) if salvage else Index()
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
        survey = by_scan(self._scan())
        survey.damage = survey.damage or (self._index_damage() if self._salvage else "")
        return survey

    def _index_damage(self) -> str:
        """What is wrong with the index of a salvaged file all of whose messages are sound."""
        try:
            read_index(self._path)
        except RecordingError as error:
            return str(error)
        return ""

    @cached_property
    def _sound(self) -> tuple[Mapping[int, array[int]], str]:
        """Capture times by channel of the readings of a salvaged file that can be decoded, and what is wrong."""
        log, survey = DamageLog(), self.survey
        times = {number: array("Q") for number in survey.sensors}
        numbers = {name: number for number, (name, _) in survey.sensors.items()}
        for _, reading in self._readings(ALWAYS, 0, log, empty=False):
            times[numbers[reading.sensor]].append(reading.capture_time_ns)
        for _ in self._truth(ALWAYS, log):
            pass
        return times, "; ".join(filter(None, (survey.damage, str(log))))

    def info(self) -> RecordingInfo:
        """What the file holds; a salvaged one is decoded once. Raises `RecordingError`."""
        survey = self.survey
        try:
            rig, problems = survey.rig()
        except InputError as error:
            raise RecordingError(f"{self._path}: the calibration or transforms cannot be read: {error}") from None
        notes = dict(survey.metadata.get(METADATA, {}))
        continuous = not NOT_CONTINUOUS.items() <= notes.items()
        notes.pop("continuous", "")
        digest, size = content_of(self._path, [self._path])
        times, damage = self._sound if self._salvage and survey.sensors else (survey.times, survey.damage)
        return RecordingInfo(
            path=self._path,
            format="mcap",
            content_sha256=digest,
            byte_size=size,
            task=notes.pop("task", ""),
            sensors=self._sensors(times, continuous=continuous),
            rig=rig,
            truths=sum(len(survey.times.get(number, ())) for number in survey.truth_channels),
            notes=notes | {f"calibration of {name}": f"not used: {problem}" for name, problem in problems.items()},
            unread=survey.unread,
            damage=damage,
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
        return self._readings(ALWAYS, start_cursor, DamageLog(), empty=False)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; chunks outside are not unpacked where log times are captures'."""
        return self._readings(times, start_cursor, DamageLog(), empty=empty)

    def _readings(
        self, times: TimeRange, start_cursor: int, log: DamageLog, *, empty: bool
    ) -> Iterator[tuple[int, Reading]]:
        survey = self.survey
        sensors, kinds = survey.sensors, survey.kinds
        if not sensors:
            topics = ", ".join(survey.unread) or "none"
            raise RecordingError(
                f"{self._path}: no camera, LiDAR or sound in Foxglove's protobuf schemas; topics: {topics}"
            )

        def read(message: RawMessage) -> Reading | None:
            name, modality = sensors[message.channel]
            content = decoded(kinds[message.channel], message.data)
            time_ns = time_of(content, message.time_ns)
            if not times.covers(time_ns):
                return None
            return Reading(name, modality, time_ns, EMPTY[modality] if empty else self._payload(modality, content))

        for message in self._messages(Wanted(start_cursor, frozenset(sensors), self._logged(times))):
            reading = self._read(message, read, log)
            if reading is not None:
                yield message.cursor, reading

    def truth(self) -> Iterator[Truth]:
        """The moments of `/truth`; nothing when there is no such topic."""
        return self._truth(ALWAYS, DamageLog())

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Those of `truth()` in `times`."""
        return self._truth(times, DamageLog())

    def _truth(self, times: TimeRange, log: DamageLog) -> Iterator[Truth]:
        channels, kinds = self.survey.truth_channels, self.survey.kinds
        if not channels:
            return
        for message in self._messages(Wanted(channels=channels, times=self._logged(times))):
            moment = self._read(message, lambda m: read_truth(decoded(kinds[m.channel], m.data), m.time_ns), log)
            if moment is not None and times.covers(moment.time_ns):
                yield moment

    def poses(self) -> Iterator[EgoPose]:
        """Transforms of `ego` in `map`, in file order."""
        survey = self.survey
        channels = frozenset(number for number, kind in survey.kinds.items() if kind is FrameTransform)
        for message in self._messages(Wanted(channels=channels)) if channels else ():
            pose = self._read(message, lambda m: read_pose(decoded(FrameTransform, m.data), m.time_ns), DamageLog())
            if pose is not None:
                yield pose

    def _logged(self, times: TimeRange) -> TimeRange:
        """Which log times are asked for: only of our own recordings is it known that they are those of capture."""
        return times if METADATA in self.survey.metadata else ALWAYS

    def _sensors(self, told: Mapping[int, array[int]], *, continuous: bool) -> dict[str, SensorInfo]:
        survey = self.survey
        times = {n: np.minimum(np.frombuffer(found, np.uint64), LAST_NS) for n, found in told.items() if found}
        found = {
            name: SensorInfo.of_times(
                modality, survey.channels[number].topic, times.get(number, []), continuous=continuous
            )
            for number, (name, modality) in survey.sensors.items()
        }
        return dict(sorted(found.items(), key=lambda pair: (list(Modality).index(pair[1].modality), pair[0])))

    def _messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        try:
            yield from self._scan().messages(wanted)
        except RecordingError:
            if not self._salvage:
                raise

    def _scan(self) -> MessageScan:
        index, peeked = self._index, self._peeked
        if not self._salvage:
            return MessageScan(self._path, index.places, dict(index.channels), dict(index.schemas))
        return MessageScan(
            self._path, {}, dict(peeked.channels), dict(peeked.schemas),
            left_out=DamageLog(), chunks=peeked.counts,
        )  # fmt: skip

    def _payload(self, modality: Modality, content: Any) -> Payload:
        if modality is Modality.CAMERA:
            return read_image(content)
        if modality is Modality.SPEECH:
            return read_audio(content)
        cloud, dropped = read_cloud(content, own=METADATA in self.survey.metadata)
        self.dropped_points += dropped
        return cloud

    def _read(
        self, message: RawMessage, read: Callable[[RawMessage], _Content | None], log: DamageLog
    ) -> _Content | None:
        """What `read` makes of a message. Bad content is an error that says where it is, or logged when salvaging."""
        try:
            return read(message)
        except InputError as error:
            topic = self.survey.channels[message.channel].topic
            what = f"{self._path}: message {message.cursor} ({topic}) at byte {message.offset}: {error}"
            if not self._salvage:
                raise RecordingError(what) from None
            log.add(f"{what}; left out")
            return None
