"""Drivers of live sensors. One is found by the scheme of the sensor's URL, through the group `fusion.drivers`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

from fusion.errors import ConfigError, SensorError
from fusion.task import Sensor
from fusion.types import Modality, Payload, Reading

ENTRY_POINTS = "fusion.drivers"
_HARMLESS = {
    *("model", "metadata", "video_size", "framerate", "rate", "count", "ca", "edge", "bias", "debounce_ms"),
    *("domain", "qos", "stamp"),
}
"""Keys of drivers' and triggers' own settings."""
_SECRET = re.compile(
    r"""(\b[\w-]*(?:pw|pass|secret|token|key|user|auth|cred)[\w-]*=)("[^"]*"|'[^']*'|\S+)""", re.IGNORECASE
)
WAIT_S = 0.2
"""How long a driver may wait for data before it looks whether it was closed."""


@dataclass(frozen=True, slots=True)
class Mount:
    """The sensor a driver is opened for: its name, what the task says of it, and the host's clock.

    `now_ns` tells the time of arrival, in nanoseconds since 1970 by a clock that all sensors of the device share.
    `dropped` counts in the sensor's books what did not become a reading, by reason.
    """

    name: str
    sensor: Sensor
    now_ns: Callable[[], int]
    dropped: Callable[[str, int], None] = lambda _reason, _count: None

    @property
    def modality(self) -> Modality:
        """The sensor's kind."""
        return self.sensor.modality

    def reading(self, capture_time_ns: int, payload: Payload) -> Reading:
        """A reading of this sensor."""
        return Reading(self.name, self.modality, capture_time_ns, payload)


class Driver(Protocol):
    """An open sensor."""

    def readings(self) -> Iterator[Reading]:
        """Readings as they arrive, until the stream ends or `close` is called.

        Waits for data, but sees within a second that it was closed. Raises `SensorError` when the sensor breaks off.
        """

    def close(self) -> None:
        """End `readings` soon; from any thread, more than once, without waiting."""


class DriverClass(Protocol):
    """What an entry point of the group names. `modality` None: of whatever kind the sensor is that it is opened for."""

    modality: Modality | None

    def open(self, url: str, mount: Mount) -> Driver:
        """Open it within seconds. Raises `SensorError`, or `ConfigError` for a URL that cannot be meant."""


def driver_class(url: str) -> DriverClass:
    """The driver of the URL's scheme. Raises `ConfigError` where there is none."""
    return cast("DriverClass", registered(url, ENTRY_POINTS))


def registered(url: str, group: str) -> Any:
    """What the URL's scheme names in an entry-point group. Raises `ConfigError` where it names nothing."""
    scheme = url.partition(":")[0].lower()
    try:
        urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{shown(url)}: {error}") from None
    found = {point.name: point for point in entry_points(group=group)}
    if scheme not in found:
        raise ConfigError(f"{shown(url)}: no driver for {scheme!r}; known: {', '.join(sorted(found))}")
    try:
        return found[scheme].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{shown(url)}: the driver of {scheme!r} cannot be imported: {error}") from None


def shown(url: str) -> str:
    """The URL without what may be secret in it: user and password, and values of keys that are not known as harmless.

    What is a key in a path (`rtmp://host/live/KEY`) cannot be told from a name; it stays. Of a pipeline (`gst:`) the
    values of properties that are named like secrets are left out.
    """
    if url.startswith("gst:"):
        return _SECRET.sub(r"\1***", re.sub(r"//[^\s/]*@", "//***@", url))
    named, question, asked = url.partition("?")
    named = re.sub(r"//.*@", "//***@", named)
    pairs = [pair.partition("=") for pair in asked.split("&")]
    told = [f"{key}={value}" if key in _HARMLESS else f"{key}=***" if sign else "***" for key, sign, value in pairs]
    return named + question + "&".join(told if asked else [])


def secrets(words: Sequence[str]) -> list[str]:
    """The values among a pipeline's words that `shown` leaves out, longest first."""
    found = [word.partition("=")[2].strip("\"'") for word in words if _SECRET.match(word)]
    return sorted(filter(None, found), key=len, reverse=True)


def query(url: str, known: tuple[str, ...]) -> dict[str, str]:
    """What follows the `?`, by key. Raises `ConfigError` for a key that is not `known`."""
    found = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if unknown := sorted(set(found) - set(known)):
        raise ConfigError(f"{shown(url)}: unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
    return found


def address(url: str, default_port: int) -> tuple[str, int]:
    """Host and port of the URL. Raises `ConfigError` for a port that is none."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{shown(url)}: {error}; give HOST:PORT") from None
    return parts.hostname or "0.0.0.0", default_port if port is None else port  # noqa: S104 sensors send to any


def library(name: str, url: str, remedy: str = "install fusion-stack[live]") -> Any:
    """The module `name`, which the driver needs. Raises `SensorError` saying what to do for it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise SensorError(f"{shown(url)}: needs {missing}, which is missing; {remedy}") from None
    except OSError as error:
        raise SensorError(f"{shown(url)}: {name} needs what the system lacks ({error}); docs/sensors.md") from None
