"""One ROS 2 topic by `rclpy`: looked up in the graph, subscribed to, and its messages as they arrive."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from edge_node.live.drivers import WAIT_S, library
from edge_node.live.ros2.address import TopicAddress
from fusion.errors import SensorError

REMEDY = (
    "source the ROS setup file before the daemon starts (. /opt/ros/jazzy/setup.sh); "
    "Python must be ROS's own (3.12 for Jazzy)"
)
DISCOVERY_S = 3.0
"""How long the graph may take to tell of a topic."""
QUIET_S = 2.0
"""How long a topic may be quiet before it is looked whether anybody publishes it."""
_LOOK_S = 0.05
_MODULES = ("rclpy", "rclpy.context", "rclpy.executors", "rclpy.node", "rclpy.qos", "rosidl_runtime_py.utilities")


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """A message of the type `kind`, such as `sensor_msgs/msg/Image`, and when it arrived by the host's clock."""

    kind: str
    message: Any
    time_ns: int


class Topic:
    """Messages of a topic that is of one of the types `kinds`, which together are `what` (for errors: "a camera").

    Whatever ROS needs is made by `arriving` in its own thread (a context, a node called after `name`, an executor) and
    ends with it; signals stay the daemon's. `depth` messages wait at most for a reader that is busy.
    """

    def __init__(
        self,
        address: TopicAddress,
        kinds: Collection[str],
        what: str,
        name: str,
        now_ns: Callable[[], int],
        *,
        depth: int,
    ) -> None:
        """Raises `SensorError` where this Python has no ROS."""
        self._address, self._kinds, self._what, self._now_ns, self._depth = address, kinds, what, now_ns, depth
        self._node_name = "fusion_" + re.sub(r"\W", "_", name)
        self._ros = {module: library(module, address.url, REMEDY) for module in _MODULES}
        self._closed = threading.Event()

    def arriving(self) -> Iterator[list[Arrived]]:
        """What arrived since the last time, oldest first, until `close`.

        Raises `SensorError` where nobody publishes the topic, now or any more, or its type is another.
        """
        try:
            with self._spinning() as (node, executor):
                kind = self._kind(node)
                if kind:
                    yield from self._heard(node, executor, kind)
        except (RuntimeError, ValueError, self._ros["rclpy.executors"].ExternalShutdownException) as error:
            raise SensorError(f"{self._address}: ROS broke off ({' '.join(str(error).split())})") from None

    def close(self) -> None:
        """End `arriving` soon; from any thread."""
        self._closed.set()

    @contextmanager
    def _spinning(self) -> Iterator[tuple[Any, Any]]:
        """A node and its executor, in a context of their own."""
        context = self._ros["rclpy.context"].Context()
        context.init(args=[], initialize_logging=False, domain_id=self._address.domain)
        with ExitStack() as stack:
            stack.callback(context.try_shutdown)
            node = self._ros["rclpy.node"].Node(
                self._node_name, context=context, use_global_arguments=False, enable_rosout=False,
                start_parameter_services=False,
            )  # fmt: skip
            stack.callback(node.destroy_node)
            executor = self._ros["rclpy.executors"].SingleThreadedExecutor(context=context)
            stack.callback(executor.shutdown)
            executor.add_node(node)
            yield node, executor

    def _kind(self, node: Any) -> str:
        """The topic's type, as soon as the graph tells it; empty when it was closed before."""
        ends = time.monotonic() + DISCOVERY_S
        while not self._closed.is_set():
            types: list[str] = dict(node.get_topic_names_and_types()).get(self._address.name, [])
            if known := [kind for kind in types if kind in self._kinds]:
                return known[0]
            if types:
                read = ", ".join(self._kinds)
                raise SensorError(
                    f"{self._address}: topic {self._address.name} is of type {', '.join(types)}, "
                    f"which is not read as {self._what}; types that are: {read}"
                )
            if time.monotonic() > ends:
                raise SensorError(f"{self._address}: {self._nobody()}; is its node running?")
            self._closed.wait(_LOOK_S)
        return ""

    def _heard(self, node: Any, executor: Any, kind: str) -> Iterator[list[Arrived]]:
        held: list[Arrived] = []
        node.create_subscription(
            self._type(kind),
            self._address.name,
            lambda message: held.append(Arrived(kind, message, self._now_ns())),
            self._qos(),
        )
        heard_s = time.monotonic()
        while not self._closed.is_set():
            executor.spin_once(timeout_sec=WAIT_S)
            for count in range(1, self._depth):
                if len(held) < count:
                    break
                executor.spin_once(timeout_sec=0.0)
            if held:
                yield held.copy()
                held.clear()
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > QUIET_S and not node.count_publishers(self._address.name):
                raise SensorError(f"{self._address}: {self._nobody()} any more")

    def _nobody(self) -> str:
        domain = self._address.domain
        return f"nobody publishes {self._address.name}" + ("" if domain is None else f" in domain {domain}")

    def _type(self, kind: str) -> Any:
        try:
            return self._ros["rosidl_runtime_py.utilities"].get_message(kind)
        except (ImportError, AttributeError) as error:
            raise SensorError(
                f"{self._address}: its type {kind} cannot be imported ({error}); source the workspace that has it"
            ) from None

    def _qos(self) -> Any:
        """As for sensor data (best effort, only the last messages), with room for `depth` of them."""
        qos = self._ros["rclpy.qos"]
        reliability = qos.ReliabilityPolicy.RELIABLE if self._address.reliable else qos.ReliabilityPolicy.BEST_EFFORT
        return qos.QoSProfile(history=qos.HistoryPolicy.KEEP_LAST, depth=self._depth, reliability=reliability)
