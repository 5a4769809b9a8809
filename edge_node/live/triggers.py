"""What says that a part is there. A trigger is found by the scheme of its URL, through the group `fusion.triggers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

from edge_node.live.drivers import registered

ENTRY_POINTS = "fusion.triggers"
TRIGGER = "trigger"
"""Its name beside the sensors'."""


class Trigger(Protocol):
    """An open trigger."""

    def events(self) -> Iterator[int]:
        """When parts arrived, in nanoseconds of the clock it was opened with, as they do, until `close` is called.

        Waits, but sees within a second that it was closed. Raises `SensorError` when the trigger breaks off.
        """

    def close(self) -> None:
        """End `events` soon; from any thread, more than once, without waiting."""


class TriggerClass(Protocol):
    """What an entry point of the group names."""

    def open(self, url: str, now_ns: Callable[[], int]) -> Trigger:
        """Open it within seconds: what happens from then on is told. `now_ns` is the clock of sensors' arrival.

        Raises `SensorError`, or `ConfigError` for a URL that cannot be meant.
        """


def trigger_class(url: str) -> TriggerClass:
    """The trigger of the URL's scheme. Raises `ConfigError` where there is none."""
    return cast("TriggerClass", registered(url, ENTRY_POINTS))
