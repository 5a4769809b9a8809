"""What tells how the device moves. It is found by the scheme of its URL, through the group `fusion.odometry`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

from edge_node.live.drivers import registered
from fusion.recording.base import EgoPose

ENTRY_POINTS = "fusion.odometry"
ODOMETRY = "odometry"
"""Its name beside the sensors'."""


class Odometry(Protocol):
    """Open odometry."""

    def poses(self) -> Iterator[EgoPose]:
        """Where the ego frame is, as that is told, until `close` is called; in a frame in which it never jumps.

        Waits, but sees within a second that it was closed. Raises `SensorError` when the odometry breaks off.
        """

    def close(self) -> None:
        """End `poses` soon; from any thread, more than once, without waiting."""


class OdometryClass(Protocol):
    """What an entry point of the group names."""

    def open(self, url: str, now_ns: Callable[[], int], dropped: Callable[[str, int], None]) -> Odometry:
        """Open it within seconds. `now_ns` is the clock of sensors' arrival; `dropped` counts what is no pose.

        Raises `SensorError`, or `ConfigError` for a URL that cannot be meant.
        """


def odometry_class(url: str) -> OdometryClass:
    """The odometry of the URL's scheme. Raises `ConfigError` where there is none."""
    return cast("OdometryClass", registered(url, ENTRY_POINTS))
