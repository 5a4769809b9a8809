"""What `[console]` of `cloud.toml` may say."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from fusion.config import HostPortOrNone, Settings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?(:[0-9]+)?")


class ConsoleTls(Settings):
    """The console's own TLS files (PEM)."""

    certificate: Path
    key: Path


class ConsoleSettings(Settings):
    """The web page for people. Without `users`, whoever is on this machine is the reviewer `local`."""

    listen: HostPortOrNone = Field(default="", description="HOST:PORT of the page; port 0 takes any, empty for none")
    users: Path | None = Field(default=None, description="who may log in: a file made by `cloud-node user`")
    session_hours: float = Field(default=12.0, gt=0, le=720, description="how long a login lasts")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="names the page is reached by, a port in them counts for nothing; others are refused, with users "
        "only when some are given",
    )
    behind_proxy: bool = Field(
        default=False, description="a proxy in front speaks HTTPS and sets X-Forwarded-For; needs users"
    )
    tls: ConsoleTls | None = None

    @property
    def host(self) -> str:
        """The host of `listen`, an IPv6 address without its brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return _is_loopback(self.host)

    @property
    def encrypted(self) -> bool:
        """Whether browsers reach the page over HTTPS."""
        return self.tls is not None or self.behind_proxy

    def address(self, port: int) -> str:
        """What to write into a browser, with the port that was taken."""
        return f"{'https' if self.tls else 'http'}://{self.listen.rpartition(':')[0]}:{port}/"

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not (_HOST.fullmatch(host.lower()) or _is_address(name_of(host))):
                raise ValueError(f"{host!r} is no name of a host; write it as in review.example or 192.0.2.7")
        return tuple(name_of(host) for host in hosts)

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not self.listen:
            return self
        if self.users is None and (self.behind_proxy or not self.loopback):
            raise ValueError(
                "others could reach the page without a login: make a file with `cloud-node user NAME --role reviewer "
                "--file users.json` and set console.users, or listen on 127.0.0.1 without behind_proxy"
            )
        if not self.loopback and not self.encrypted:
            raise ValueError(
                "passwords would cross the network in plain text: set [console.tls], or behind_proxy = true when a "
                "proxy in front speaks HTTPS, or listen on 127.0.0.1"
            )
        return self


def name_of(host: str) -> str:
    """`Host` without its port, an IPv6 address without brackets, in small letters."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name if _is_address(name) else name.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
