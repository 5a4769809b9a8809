"""Data packets of Velodyne LiDARs (VLP-16 User Manual, 63-9243, chapter 9).

A packet is 12 blocks of 100 bytes and a tail of 6: flag FF EE, azimuth in hundredths of a degree clockwise from the y
axis, 32 times distance in 2 mm and reflectivity; then the time of the first return in microseconds of the hour, return
mode, and product id. Numbers are little-endian.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.recording.velodyne.models import VelodyneModel

PACKET_BYTES = 1206
POSITION_BYTES = 512
BLOCKS = 12
TURN = 36_000
HOUR_US = 3_600_000_000
DUAL = 0x39
MODES = {0x37: "strongest return", 0x38: "last return", DUAL: "dual returns"}
_RETURN = np.dtype([("distance", "<u2"), ("reflectivity", "u1")])
_BLOCK = np.dtype([("flag", "<u2"), ("azimuth", "<u2"), ("returns", _RETURN, 32)])
_PACKET = np.dtype([("blocks", _BLOCK, BLOCKS), ("time_us", "<u4"), ("mode", "u1"), ("product", "u1")])
_FLAG = 0xEEFF
_MAX_STEP = 500
"""Between blocks, hundredths of a degree: what may count towards the usual step."""


def read_packet(data: bytes) -> np.ndarray | str:
    """The packet, shape (1,), or why it is none: `size` or `content`."""
    if len(data) != PACKET_BYTES:
        return "size"
    packet = np.frombuffer(data, _PACKET)
    blocks = packet["blocks"][0]
    return "content" if (blocks["flag"] != _FLAG).any() or (blocks["azimuth"] >= TURN).any() else packet


def is_data(data: bytes) -> bool:
    """Whether a datagram is a data packet of whatever model."""
    return not isinstance(read_packet(data), str)


def since_us(time_us: Any, before_us: Any) -> Any:
    """Microseconds from one time of the hour to another, the shorter way round."""
    return (time_us - before_us + HOUR_US // 2) % HOUR_US - HOUR_US // 2


def usual_step(steps: np.ndarray) -> float:
    """How far the azimuth rises from block to block; 0 where it does not."""
    usual = steps[(steps > 0) & (steps < _MAX_STEP)]
    return float(np.median(usual)) if usual.size else 0.0


def turn_us(azimuths: np.ndarray, model: VelodyneModel) -> float:
    """How long a turn takes at the speed at which the azimuth rises in a packet; 0 where it does not."""
    step = usual_step(np.diff(azimuths) % TURN)
    return TURN / step * model.block_us if step else 0.0
