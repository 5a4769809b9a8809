"""`world.KEY=VALUE`: what surrounds the nodes in a what-if run. All of it left out is the recording as it was."""

from __future__ import annotations

from fusion.config import Settings


class WorldSettings(Settings):
    """The world around the nodes."""
