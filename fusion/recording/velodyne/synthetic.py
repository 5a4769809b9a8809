"""Made-up packets of a VLP-16 in a round room: for tests and examples. Same arguments, same bytes."""

from __future__ import annotations

import struct

from fusion.recording.velodyne.models import MODELS
from fusion.recording.velodyne.packets import DUAL, HOUR_US, TURN

STEP = 40
"""Hundredths of a degree from block to block: 900 blocks a turn."""


def packet(
    azimuth: int, time_us: int, *, mode: int = 0x37, product: int = 0x22, distance: int = 5000, step: int = STEP
) -> bytes:
    """Twelve blocks from `azimuth` on, of reflectivity 51; `distance` in 2 mm. Of dual returns the odd blocks, which
    are the strongest, are half as far away.
    """
    blocks = b""
    for number in range(12):
        dual = mode == DUAL
        at = (azimuth + step * (number // 2 if dual else number)) % TURN
        far = distance // 2 if dual and number % 2 else distance
        blocks += struct.pack("<HH", 0xEEFF, at) + struct.pack("<HB", far, 51) * 32
    return blocks + struct.pack("<IBB", time_us % HOUR_US, mode, product)


def turns(
    count: int, *, start: int = 0, time_us: int = 0, mode: int = 0x37, product: int = 0x22, distance: int = 5000
) -> list[bytes]:
    """`count` turns of 900 blocks from azimuth `start` on, and the packet after them."""
    blocks, block_us = 6 if mode == DUAL else 12, MODELS["vlp16"].block_us
    return [
        packet(
            (start + n * blocks * STEP) % TURN,
            time_us + round(n * blocks * block_us),
            mode=mode,
            product=product,
            distance=distance,
        )
        for n in range(count * 900 // blocks + 1)
    ]
