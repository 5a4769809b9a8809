"""Which files and folders are containers of ROS messages, and the one door to each kind."""

from __future__ import annotations

from pathlib import Path

from fusion.recording.native.stream import MAGIC as MCAP_MAGIC
from fusion.recording.native.stream import opened
from fusion.recording.ros.mcap_bag import McapRosSource, speaks_ros
from fusion.recording.ros.ros1_bag import Ros1Bag
from fusion.recording.ros.ros2_bag import Ros2Bag, is_ros2_bag
from fusion.recording.ros.source import RosSource

_ROS1 = b"#ROSBAG V"


def is_bag(path: Path) -> bool:
    """A ROS 1 bag, a ROS 2 bag's folder or SQLite file, or an MCAP file of ROS messages; never raises."""
    try:
        if path.is_dir():
            return is_ros2_bag(path)
        with path.open("rb") as file:
            head = file.read(len(_ROS1))
        return head == _ROS1 or path.suffix == ".bag" or is_ros2_bag(path) or speaks_ros(path)
    except OSError:
        return False


def open_bag(path: Path, *, salvage: bool = False) -> RosSource:
    """The container at `path`, for which `is_bag` holds. Raises `RecordingError` where it is damaged."""
    if path.is_dir() or is_ros2_bag(path):
        return Ros2Bag(path, salvage=salvage)
    with opened(path) as file:
        head = file.read(len(MCAP_MAGIC))
    return McapRosSource(path, salvage=salvage) if head == MCAP_MAGIC else Ros1Bag(path, salvage=salvage)
