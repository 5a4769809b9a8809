"""What the device keeps beside evidence, for people who review items: part of `edge.toml`."""

from __future__ import annotations

from pydantic import Field

from fusion.config import Settings


class EvidenceSettings(Settings):
    """What is kept of an item, beside its crop, until the service asks or answers; what is off is not kept at all.

    `context_points`: LiDAR points around the item, at most `max_points` (2 to 3 KB for 2,048, never over 32 KB).
    `context_sound`: what was said in the last `sound_s` (16 KB a second at 16 kHz, never over 64 KB); off unless it is
    asked for, since people may not know that they are heard. In a full spool both go before any evidence does.
    """

    context_points: bool = True
    context_sound: bool = False
    max_points: int = Field(default=2048, ge=1, le=4096)
    sound_s: float = Field(default=3.0, gt=0, le=8.0)
