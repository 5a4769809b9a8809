"""What every container of ROS messages can do, whichever it is: ROS 1 bags, ROS 2 bags, MCAP files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from fusion.recording.native.stream import RawMessage, Wanted

ROS1 = "ros1"
CDR = "cdr"


@dataclass(frozen=True, slots=True)
class RosChannel:
    """Where messages come from: topic, type such as `sensor_msgs/msg/Image`, and encoding (`ros1` or `cdr`).

    `md5` is the checksum ROS 1 gives of the type's definition, empty where none is told.
    """

    topic: str
    type: str
    encoding: str
    md5: str = ""

    @property
    def namespace(self) -> str:
        """The topic without its last part."""
        return self.topic.rpartition("/")[0]


class RosSource(Protocol):
    """An open container. Its messages are numbered upwards from 1 over all topics, in the order they were stored."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def format(self) -> str:
        """`rosbag1`, `rosbag2` or `mcap`."""

    @property
    def files(self) -> Sequence[Path]:
        """The files messages are read from."""

    @property
    def channels(self) -> Mapping[int, RosChannel]:
        """Every channel, by number. A topic may have several."""

    @property
    def present(self) -> frozenset[int]:
        """The channels that have messages."""

    @property
    def count(self) -> int:
        """How many messages there are."""

    @property
    def span(self) -> int:
        """The highest number a message has; in SQLite files some may be missing between."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What is odd about the container."""

    @property
    def damage(self) -> str:
        """What is lost of a salvaged container; empty for a whole one."""

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        """The wanted messages in stored order. What is not wanted is passed over without being looked into.

        `time_ns` is when the message was stored. Raises `RecordingError` where the container is bad.
        """

    def place(self, message: RawMessage) -> str:
        """Where in the container a message is, for an error's text."""


def normal_type(name: str) -> str:
    """`sensor_msgs/Image` and `sensor_msgs/msg/Image` as the latter."""
    package, _, kind = name.partition("/")
    return f"{package}/msg/{kind.removeprefix('msg/')}" if kind else name


def first_messages(source: RosSource, channels: Collection[int]) -> dict[int, RawMessage]:
    """The first message of each of `channels` that has one, by channel."""
    missing = set(channels) & source.present
    found: dict[int, RawMessage] = {}
    after = 0
    while missing:
        message = next(iter(source.messages(Wanted(after, frozenset(missing)))), None)
        if message is None:
            break
        found[message.channel] = replace(message, data=memoryview(bytes(message.data)))
        missing.discard(message.channel)
        after = message.cursor
    return found
