"""Finds encoder classes by name through the entry-point group `fusion.encoders`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from fusion.errors import ConfigError


def find_encoder(name: str) -> type[Any]:
    """The encoder class registered as `name`. Raises `ConfigError` that lists the known names."""
    found = {point.name: point for point in entry_points(group="fusion.encoders")}
    if name not in found:
        raise ConfigError(f"no encoder named {name!r}; installed: {', '.join(sorted(found)) or 'none'}")
    loaded: type[Any] = found[name].load()
    return loaded
