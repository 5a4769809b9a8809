"""ROS bags as recordings: ROS 1 and ROS 2 bags, and MCAP files of either's messages."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fusion.errors import InputError, RecordingError
from fusion.recording.base import EMPTY, RecordingInfo, RecordingReader, SensorInfo
from fusion.recording.content import check_request, content_of
from fusion.recording.damage import DamageLog
from fusion.recording.native.stream import RawMessage, Wanted
from fusion.recording.ouster.packets import BagPackets, has_only_packets
from fusion.recording.ouster.reader import SENSOR as OUSTER
from fusion.recording.ouster.reader import OusterReader
from fusion.recording.ros.bags import is_bag, open_bag
from fusion.recording.ros.messages import check_library, plain
from fusion.recording.ros.rig import RosRig, read_rig
from fusion.recording.ros.source import RosSource
from fusion.recording.ros.topics import RosTopic, RosTopics, capture_ns, find_topics, read_payload
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.task import Task
from fusion.types import Modality, PointCloud, Reading, Truth


@dataclass(slots=True)
class _Survey:
    """What one pass over the sensors' messages told, by sensor name."""

    times_ns: dict[str, array[int]] = field(default_factory=dict)
    stored: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    undated: Counter[str] = field(default_factory=Counter)
    untimed: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: dict[str, str] = field(default_factory=dict)
    log: DamageLog = field(default_factory=DamageLog)

    def date(self, name: str, time_ns: int, *, undated: bool) -> None:
        self.times_ns.setdefault(name, array("q")).append(time_ns)
        self.undated[name] += undated


class RosReader:
    """Reads a ROS bag.

    Capture times are the stamps of the messages' headers; where a stamp is zero, or the type has none, the time at
    which the bag stored the message, and `info().notes` says so. A cursor is a message's number in the bag over all
    topics. Points that are no returns are left out: `info().notes` counts them, `dropped_points` those read so far.
    With `salvage` messages that cannot be decoded are left out, and `info().damage` tells them.
    """

    def __init__(self, source: RosSource, *, salvage: bool = False) -> None:
        self._source, self._salvage = source, salvage
        self.dropped_points = 0

    @staticmethod
    def can_read(path: Path) -> bool:
        """A ROS 1 bag, a ROS 2 bag's folder or SQLite file, or an MCAP file with ROS's profiles or encodings."""
        return is_bag(path)

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> RecordingReader:
        """Open `path`; a `task` must share a sensor with it. Raises `RecordingError`.

        A bag of nothing but an Ouster LiDAR's raw packets and its metadata is given to the reader of these.
        """
        check_library(path)
        source = open_bag(path, salvage=salvage)
        if has_only_packets(source):
            check_request(path, "a ROS bag", {OUSTER}, task, split)
            return OusterReader(BagPackets(source, salvage=salvage))
        reader = cls(source, salvage=salvage)
        names = {topic.name for topic in reader.topics.sensors.values()} if task is not None else set[str]()
        check_request(path, "a ROS bag", names, task, split)
        return reader

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self._source.path

    @cached_property
    def topics(self) -> RosTopics:
        """Which topics are sensors."""
        return find_topics(self._source)

    @cached_property
    def _survey(self) -> _Survey:
        survey = _Survey()
        for message in self._messages(0):
            topic = self.topics.sensors[message.channel]
            try:
                with self._blaming(message):
                    self._note(survey, self._plain(message))
            except RecordingError as error:  # reading on from there will raise it
                survey.bad[topic.name] += 1
                survey.first_bad.setdefault(topic.name, str(error))
                survey.log.add(f"{error}; left out")
        return survey

    @cached_property
    def _content(self) -> tuple[str, int]:
        return content_of(self.path, self._source.files)

    @cached_property
    def _rig(self) -> RosRig:
        return read_rig(self._source, {topic.name: topic.mounted for topic in self.topics.sensors.values()})

    def info(self) -> RecordingInfo:
        """What the bag holds. Every sensor's message is read once, for its stamp; of a salvaged bag it is decoded."""
        digest, size = self._content
        survey = self._survey
        return RecordingInfo(
            path=self.path,
            format=self._source.format,
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors=self._sensors(survey),
            rig=self._rig.rig,
            truths=0,
            notes={**self._source.notes, **self._rig.notes, **dict(self._remarks(survey))},
            unread=self.topics.unread,
            damage="; ".join(filter(None, (self._source.damage, str(survey.log) if self._salvage else ""))),
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each sensor's messages before the container's compression."""
        return {topic.name: self._survey.stored[topic.name] for topic in self.topics.sensors.values()}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """Readings in the bag's order; messages up to `start_cursor` are not decoded, nor their chunks unpacked."""
        return self.between(ALWAYS, start_cursor)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; of others only the stamp is decoded."""
        if not self.topics.sensors:
            topics = ", ".join(self.topics.unread) or "none"
            raise RecordingError(f"{self.path}: no camera, LiDAR or sound that is read; topics: {topics}")
        for message in self._messages(start_cursor):
            try:
                with self._blaming(message):
                    topic = self.topics.sensors[message.channel]
                    reading = self._reading(topic, self._plain(message), times, empty=empty)
            except RecordingError:
                if not self._salvage:
                    raise
                continue
            if reading is not None:
                yield message.cursor, reading

    def truth(self) -> Iterator[Truth]:
        """Nothing: bags carry no truth this stack knows."""
        return iter(())

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Nothing."""
        del times
        return iter(())

    def _reading(self, topic: RosTopic, message: RawMessage, times: TimeRange, *, empty: bool) -> Reading | None:
        channel = self._source.channels[message.channel]
        time_ns, _ = capture_ns(channel, message)
        if not times.covers(time_ns):
            return None
        if empty:
            return Reading(topic.name, topic.modality, time_ns, EMPTY[topic.modality])
        payload, dropped = read_payload(topic, channel, message.data, time_ns)
        self.dropped_points += dropped
        return Reading(topic.name, topic.modality, time_ns, payload)

    def _plain(self, message: RawMessage) -> RawMessage:
        try:
            return replace(message, data=plain(self._source.channels[message.channel], message.data))
        except InputError as error:
            raise InputError(f"stored at {message.time_ns} ns: {error}") from None

    def _messages(self, after: int) -> Iterator[RawMessage]:
        return self._source.messages(Wanted(after, frozenset(self.topics.sensors)))

    def _sensors(self, survey: _Survey) -> dict[str, SensorInfo]:
        topics = {topic.name: topic for topic in self.topics.sensors.values()}
        order = sorted(topics.values(), key=lambda topic: (list(Modality).index(topic.modality), topic.name))
        return {
            topic.name: SensorInfo.of_times(topic.modality, topic.mounted.topic, survey.times_ns.get(topic.name, []))
            for topic in order
        }

    def _note(self, survey: _Survey, message: RawMessage) -> None:
        topic, channel = self.topics.sensors[message.channel], self._source.channels[message.channel]
        survey.stored[topic.name] += len(message.data)
        time_ns, undated = capture_ns(channel, message)
        if topic.modality is not Modality.LIDAR and not self._salvage:
            survey.date(topic.name, time_ns, undated=undated)
            return
        try:
            cloud, dropped = read_payload(topic, channel, message.data, time_ns)
        except InputError:
            if not self._salvage:
                survey.date(topic.name, time_ns, undated=undated)
            raise
        survey.date(topic.name, time_ns, undated=undated)
        if topic.modality is not Modality.LIDAR:
            return
        assert isinstance(cloud, PointCloud)
        survey.points[topic.name] += len(cloud.points) + dropped
        survey.dropped[topic.name] += dropped
        survey.untimed[topic.name] += bool(topic.rule.time) and cloud.offsets_s is None

    def _remarks(self, survey: _Survey) -> Iterator[tuple[str, str]]:
        for topic in {topic.name: topic for topic in self.topics.sensors.values()}.values():
            name, rule = topic.name, topic.rule
            count = len(survey.times_ns.get(name, []))
            if undated := survey.undated[name]:
                yield (
                    f"times of {name}",
                    f"of {undated} of {count} messages, when the bag stored them: they have no stamp",
                )
            if bad := survey.bad[name]:
                yield f"messages of {name}", f"{bad} cannot be read; the first: {survey.first_bad[name]}"
            if topic.modality is not Modality.LIDAR:
                continue
            yield f"intensity of {name}", str(rule)
            if dropped := survey.dropped[name]:
                yield (
                    f"no returns of {name}",
                    f"{dropped} of {survey.points[name]} points left out (zero or not finite)",
                )
            if untimed := survey.untimed[name]:
                yield (
                    f"point times of {name}",
                    f"field {rule.time} of {untimed} sweeps is on no clock that is understood",
                )

    @contextmanager
    def _blaming(self, message: RawMessage) -> Iterator[None]:
        """Bad content becomes an error that says which message of which topic it is in."""
        try:
            yield
        except InputError as error:
            topic = self._source.channels[message.channel].topic
            raise RecordingError(f"{self.path}: {self._source.place(message)}, {topic}: {error}") from None
