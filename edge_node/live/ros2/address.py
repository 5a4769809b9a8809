"""Which topic a URL means: `ros2:///camera/image_raw?domain=7&qos=reliable&stamp=header`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from edge_node.live.drivers import query, shown
from fusion.errors import ConfigError

_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_MOST_DOMAIN = 232
_CHOICES = {"qos": ("sensor", "reliable"), "stamp": ("arrival", "header")}


@dataclass(frozen=True, slots=True)
class TopicAddress:
    """A topic by its full name, and the domain it is in (None: the one that `ROS_DOMAIN_ID` names, else 0).

    `reliable` asks its publisher to send again what was lost; `stamped` takes the stamps of headers as capture times.
    """

    url: str
    name: str
    domain: int | None
    reliable: bool
    stamped: bool

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises `ConfigError` for a URL that names no topic, or asks for what there is not."""
        parts = urlsplit(url)
        name = unquote(parts.path)
        if parts.netloc or not _NAME.fullmatch(name):
            raise ConfigError(f"{shown(url)}: names no topic; write ros2:///TOPIC, as `ros2 topic list` tells it")
        asked = query(url, ("domain", *_CHOICES))
        for key, known in _CHOICES.items():
            if asked.get(key, known[0]) not in known:
                raise ConfigError(f"{shown(url)}: {key} is {' or '.join(known)}")
        domain = asked.get("domain")
        if domain is not None and not (domain.isdecimal() and int(domain) <= _MOST_DOMAIN):
            raise ConfigError(f"{shown(url)}: domain is a number from 0 to {_MOST_DOMAIN}")
        reliable, stamped = asked.get("qos") == "reliable", asked.get("stamp") == "header"
        return cls(url, name, None if domain is None else int(domain), reliable, stamped)

    def __str__(self) -> str:
        return shown(self.url)
