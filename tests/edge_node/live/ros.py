"""A stand-in for ROS 2: the calls of `rclpy` that the drivers make, with the real ones' names, rules and errors.

`Graph` is the network: topics with their types, who publishes and who subscribes. What is published waits in each
subscription's own queue, as long as its QoS says, until an executor takes it.
"""

from __future__ import annotations

import array
import sys
import threading
from collections import deque
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np

IMAGE, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD = "sensor_msgs/msg/PointCloud2"
AUDIO, STAMPED_AUDIO = "audio_common_msgs/msg/AudioData", "audio_common_msgs/msg/AudioDataStamped"
ODOMETRY, POSE = "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped"
KNOWN = {IMAGE, JPEG, CLOUD, AUDIO, STAMPED_AUDIO, ODOMETRY, POSE, "std_msgs/msg/String"}


class ReliabilityPolicy(IntEnum):
    RELIABLE = 1
    BEST_EFFORT = 2


class HistoryPolicy(IntEnum):
    KEEP_LAST = 1


class QoSProfile:
    def __init__(self, *, history, depth, reliability) -> None:
        self.history, self.depth, self.reliability = HistoryPolicy(history), depth, ReliabilityPolicy(reliability)


class ExternalShutdownException(Exception):  # noqa: N818 the real one's name
    """As rclpy's."""


class Graph:
    """`publish` reaches whoever subscribes to the topic in its domain. `open` are contexts that were not shut down."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # its lock may be taken again by who holds it
        self.types: dict[tuple[int, str], list[str]] = {}
        self.publishers: dict[tuple[int, str], int] = {}
        self.subscriptions: list[Subscription] = []
        self.contexts: list[Context] = []

    @property
    def open(self) -> int:
        return sum(context.ok() for context in self.contexts)

    def advertise(self, topic: str, *kinds: str, domain: int = 0, publishers: int = 1) -> None:
        with self.changed:
            self.types[domain, topic] = list(kinds)
            self.publishers[domain, topic] = publishers

    def leave(self, topic: str) -> None:
        with self.changed:
            del self.types[0, topic]
            self.publishers[0, topic] = 0

    def subscribed(self, topic: str) -> list[Subscription]:
        with self.changed:
            return [each for each in self.subscriptions if each.topic == topic]

    def idle(self, topic: str) -> bool:
        """Whether all that was published was taken, and those who subscribe wait for more."""
        with self.changed:
            return all(not each.waiting and each.node.executor.resting for each in self.subscribed(topic))

    def publish(self, topic: str, *messages: Any, domain: int = 0, reliable: bool = False) -> None:
        with self.changed:
            for each in self.subscriptions:
                if (each.node.domain, each.topic) == (domain, topic) and (
                    reliable or each.qos.reliability is ReliabilityPolicy.BEST_EFFORT
                ):
                    each.waiting.extend(messages)
            self.changed.notify_all()


class Subscription:
    def __init__(self, node, kind, topic, callback, qos) -> None:
        self.node, self.kind, self.topic, self.callback, self.qos = node, kind, topic, callback, qos
        self.waiting: deque = deque(maxlen=qos.depth)


class Context:
    graph: Graph

    def __init__(self) -> None:
        self._state, self.domain = "new", 0
        self.graph.contexts.append(self)

    def init(self, args=None, *, initialize_logging=True, domain_id=None) -> None:
        assert args == [], "sys.argv would be read"
        assert not initialize_logging, "log files would be written"
        if self._state != "new":
            raise RuntimeError("Context.init() must only be called once")
        self._state, self.domain = "ok", domain_id or 0

    def ok(self) -> bool:
        return self._state == "ok"

    def try_shutdown(self) -> None:
        self._state = "over"


class Node:
    def __init__(
        self, node_name, *, context, use_global_arguments=True, enable_rosout=True, start_parameter_services=True
    ) -> None:
        assert context.ok()
        assert node_name.isidentifier()
        assert [use_global_arguments, enable_rosout, start_parameter_services] == [False] * 3
        self.name, self.context, self.domain, self.graph = node_name, context, context.domain, context.graph

    def get_topic_names_and_types(self, no_demangle=False):
        with self.graph.changed:
            return [(topic, kinds) for (domain, topic), kinds in self.graph.types.items() if domain == self.domain]

    def count_publishers(self, topic_name) -> int:
        return self.graph.publishers.get((self.domain, topic_name), 0)

    def create_subscription(self, msg_type, topic, callback, qos_profile):
        made = Subscription(self, msg_type, topic, callback, qos_profile)
        with self.graph.changed:
            self.graph.subscriptions.append(made)
        return made

    def destroy_node(self) -> None:
        with self.graph.changed:
            self.graph.subscriptions = [each for each in self.graph.subscriptions if each.node is not self]


class SingleThreadedExecutor:
    def __init__(self, *, context) -> None:
        self._context, self._nodes, self._over = context, set(), False
        self._thread, self.resting = threading.get_ident(), False

    def add_node(self, node) -> bool:
        self._nodes.add(node)
        node.executor = self
        return True

    def spin_once(self, timeout_sec=None) -> None:
        assert threading.get_ident() == self._thread, "not to be called from several threads"
        assert timeout_sec is not None, "would wait for ever"
        graph = self._context.graph
        with graph.changed:
            self.resting = timeout_sec > 0
            graph.changed.wait_for(lambda: self._ready() or not self._context.ok(), timeout_sec)
            self.resting = False
            if not self._context.ok():
                raise ExternalShutdownException
            ready = self._ready()
            if not ready:
                return
            message = ready[0].waiting.popleft()
        ready[0].callback(message)

    def shutdown(self, timeout_sec=None) -> bool:
        self._nodes.clear()
        return True

    def _ready(self) -> list[Subscription]:
        return [each for each in self._context.graph.subscriptions if each.node in self._nodes and each.waiting]


def get_message(identifier: str) -> Any:
    """As of `rosidl_runtime_py.utilities`."""
    if identifier not in KNOWN:
        raise ModuleNotFoundError(f"No module named '{identifier.partition('/')[0]}'")
    return identifier


def install(monkeypatch) -> Graph:
    """Make `rclpy` importable; the network of its own is the answer."""
    graph = Graph()
    modules = {
        "rclpy": {},
        "rclpy.context": {"Context": type("Context", (Context,), {"graph": graph})},
        "rclpy.executors": {
            "SingleThreadedExecutor": SingleThreadedExecutor, "ExternalShutdownException": ExternalShutdownException,
        },
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {
            "QoSProfile": QoSProfile, "ReliabilityPolicy": ReliabilityPolicy, "HistoryPolicy": HistoryPolicy,
        },
        "rosidl_runtime_py": {},
        "rosidl_runtime_py.utilities": {"get_message": get_message},
    }  # fmt: skip
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return graph


def header(stamp_ns: int, frame: str = "") -> SimpleNamespace:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame)


def image(pixels: np.ndarray, stamp_ns: int = 0, encoding: str = "bgr8") -> SimpleNamespace:
    height, width, channels = pixels.shape
    return SimpleNamespace(
        header=header(stamp_ns), height=height, width=width, encoding=encoding, is_bigendian=0,
        step=width * channels, data=array.array("B", pixels.tobytes()),
    )  # fmt: skip


def jpeg(pixels: np.ndarray, stamp_ns: int = 0, form: str = "bgr8; jpeg compressed bgr8") -> SimpleNamespace:
    data = array.array("B", cv2.imencode(".jpg", pixels)[1].tobytes())
    return SimpleNamespace(header=header(stamp_ns), format=form, data=data)


def cloud(points: np.ndarray, stamp_ns: int = 0) -> SimpleNamespace:
    """Points (n, 5) of x y z intensity and seconds."""
    names = ("x", "y", "z", "intensity", "time")
    fields = [SimpleNamespace(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate(names)]
    data = array.array("B", points.astype("<f4").tobytes())
    return SimpleNamespace(
        header=header(stamp_ns), height=1, width=len(points), fields=fields, is_bigendian=False, point_step=20,
        row_step=20 * len(points), data=data, is_dense=True,
    )  # fmt: skip


def pose(x: float, yaw: float = 0.0) -> SimpleNamespace:
    turn = SimpleNamespace(x=0.0, y=0.0, z=np.sin(yaw / 2), w=np.cos(yaw / 2))
    return SimpleNamespace(position=SimpleNamespace(x=x, y=0.0, z=0.0), orientation=turn)


def odometry(x: float, stamp_ns: int = 0, yaw: float = 0.0) -> SimpleNamespace:
    covered = SimpleNamespace(pose=pose(x, yaw), covariance=np.zeros(36))
    return SimpleNamespace(header=header(stamp_ns, "odom"), child_frame_id="base_link", pose=covered)


def stamped_pose(x: float, stamp_ns: int = 0, yaw: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(header=header(stamp_ns, "odom"), pose=pose(x, yaw))


def audio(pcm: np.ndarray, stamp_ns: int | None = None) -> SimpleNamespace:
    plain = SimpleNamespace(data=array.array("B", pcm.astype("<i2").tobytes()))
    return plain if stamp_ns is None else SimpleNamespace(header=header(stamp_ns), audio=plain)
