"""Odometry by a ROS 2 topic: `ros2:///odom`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from edge_node.live.ros2.address import TopicAddress
from edge_node.live.ros2.stamps import HeaderStamps
from edge_node.live.ros2.topic import Arrived, Topic
from fusion.errors import InputError
from fusion.recording.base import EgoPose
from fusion.recording.ros.messages import header_ns
from fusion.recording.ros.rig import rigid_of

ODOMETRY, POSE = "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped"
DEPTH = 50
"""Poses that ROS holds for a driver that is busy; each counts."""


class Ros2Odometry:
    """Poses of a topic; times are those of arrival or, with `?stamp=header`, the headers' where they can be meant."""

    def __init__(self, address: TopicAddress, now_ns: Callable[[], int], dropped: Callable[[str, int], None]) -> None:
        """Raises `SensorError` where this Python has no ROS."""
        self._topic = Topic(address, (ODOMETRY, POSE), "odometry", "odometry", now_ns, depth=DEPTH)
        self._dropped, self._stamps = dropped, HeaderStamps(dropped) if address.stamped else None

    @classmethod
    def open(cls, url: str, now_ns: Callable[[], int], dropped: Callable[[str, int], None]) -> Self:
        """See `OdometryClass`; the topic need not be there yet."""
        return cls(TopicAddress.of(url), now_ns, dropped)

    def poses(self) -> Iterator[EgoPose]:
        """See `Odometry`."""
        for batch in self._topic.arriving():
            for arrived in batch:
                try:
                    pose = self._pose(arrived)
                except InputError:
                    self._dropped("cannot be read", 1)
                    continue
                if pose:
                    yield pose

    def close(self) -> None:
        """See `Odometry`."""
        self._topic.close()

    def _pose(self, arrived: Arrived) -> EgoPose | None:
        """None where its stamp cannot be meant."""
        message = arrived.message
        stamp_ns = header_ns(message.header)
        if self._stamps and not self._stamps.meant(stamp_ns, arrived.time_ns):
            return None
        pose = message.pose.pose if arrived.kind == ODOMETRY else message.pose
        return EgoPose(stamp_ns if self._stamps else arrived.time_ns, rigid_of(pose.position, pose.orientation))
