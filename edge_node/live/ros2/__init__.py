"""Live sensors and odometry from ROS 2 topics."""

from edge_node.live.ros2.driver import Ros2Driver
from edge_node.live.ros2.odometry import Ros2Odometry

__all__ = ["Ros2Driver", "Ros2Odometry"]
