"""Which nodes a run drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from pydantic import Field

from fusion.config import Settings
from fusion.errors import ConfigError
from fusion.wire.channel import ClientTls


class Mode(StrEnum):
    """The modes, by the name that a run's manifest keeps."""

    BOTH = "both"
    """Both nodes' own code in one process; the same bytes every time."""
    EDGE_ONLY = "edge-only"
    """The device alone; what it would send goes into an evidence file."""
    CLOUD_ONLY = "cloud-only"
    """The service's own code on evidence that was recorded."""
    LIVE = "live"
    """A real daemon, paced, against a service that runs somewhere."""


class LiveLink(Settings):
    """Where the service of a live run is (HOST:PORT), with which TLS files, and how fast recordings are played.

    `pace` is a factor of the recording's own speed, infinity for as fast as the device can.
    """

    address: str
    pace: float = Field(default=1.0, allow_inf_nan=True)
    tls: ClientTls | None = None


_ABSENT = {
    Mode.BOTH: {},
    Mode.EDGE_ONLY: {"cloud": "the service does not run with --edge-only"},
    Mode.CLOUD_ONLY: {
        "edge": "the device does not run with --cloud-only",
        "world": "the world of the device and its link is not there with --cloud-only",
    },
    Mode.LIVE: {
        "cloud": "the service of --live has its own configuration",
        "world": "--live has a real link and a real service",
    },
}
"""Keys that would change nothing in a mode, by their first word, and why."""
_OWN = {"source.path", "source.kind", "source.loop", "source.pace", "spool.path", "uplink.address"}
"""Keys of the device that a live run sets itself."""


def check_keys(mode: Mode, keys: Mapping[str, Sequence[str]], *, models: str = "", reviewer: str = "") -> None:
    """Raise `ConfigError` for a setting of what does not run in `mode`."""
    for side, why in _ABSENT[mode].items():
        if keys.get(side):
            raise ConfigError(f"--set {side}.{keys[side][0]}: {why}; leave it out")
        if side == "edge" and models:
            raise ConfigError(f"--models {models}: {why}; leave it out")
        if side == "cloud" and reviewer:
            raise ConfigError(f"--reviewer {reviewer}: {why}; leave it out")
    for key in keys.get("edge", ()) if mode is Mode.LIVE else ():
        if key.partition("=")[0].strip() in _OWN:
            raise ConfigError(f"--set edge.{key}: a live run sets it itself; leave it out")
