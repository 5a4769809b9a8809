"""A codec profile and maps that no model made: for tests and benchmarks, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from fusion.codec.profile import Level, Profile
from fusion.types import Int8Array

CHANNELS = (24, 32, 32)
CLIP = 31


def synthetic_profile(
    *,
    task: str = "synthetic",
    image_width: int = 640,
    image_height: int = 384,
    channels: tuple[int, ...] = CHANNELS,
    clip: int = CLIP,
) -> Profile:
    """A profile with strides 8, 16, 32, ... and two-sided geometric tables that narrow as channels matter less."""
    levels = []
    for index, count in enumerate(channels):
        tables = np.array([_geometric(clip, _decay(k, count)) for k in range(count)], np.int32)
        step = np.full(count, 0.25, np.float32)
        levels.append(Level(8 << index, count, step, clip, tables))
    return Profile.create(
        task=task,
        image_width=image_width,
        image_height=image_height,
        levels=tuple(levels),
        trunk_sha256=hashlib.sha256(b"no trunk").hexdigest(),
    )


def synthetic_maps(profile: Profile, seed: int = 0) -> list[Int8Array]:
    """Whole maps, one (K, h, w) a level, drawn from the profile's own tables."""
    rng = np.random.default_rng(seed)
    maps = []
    for index, level in enumerate(profile.levels):
        height, width = profile.map_size(index)
        codes = np.empty((level.channels, height, width), np.int8)
        for channel, table in enumerate(level.frequencies):
            edges = np.cumsum(table)
            drawn = rng.integers(0, edges[-1], height * width)
            codes[channel] = (np.searchsorted(edges, drawn, side="right") - level.clip).reshape(height, width)
        maps.append(codes)
    return maps


def _decay(channel: int, channels: int) -> int:
    """Percent by which a code's weight falls with its magnitude; about 1.4 bits a symbol on average, as trunks have."""
    return 3 + 46 * (channels - channel) ** 2 // channels**2


def _geometric(clip: int, percent: int) -> list[int]:
    """Integer weights proportional to (percent/100)^|code|, at least 1, for codes -clip..clip."""
    return [max(1, (percent ** abs(code) << 16) // 100 ** abs(code)) for code in range(-clip, clip + 1)]
