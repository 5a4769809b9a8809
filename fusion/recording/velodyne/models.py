"""What the packets of a Velodyne LiDAR leave out: where its lasers point and when each of them fires."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fusion.types import Float64Array

_VLP16_DEG = (-15, 1, -13, 3, -11, 5, -9, 7, -7, 9, -5, 11, -3, 13, -1, 15)
_VLP16_MM = (11.2, -0.7, 9.7, -2.2, 8.1, -3.7, 6.6, -5.1, 5.1, -6.6, 3.7, -8.1, 2.2, -9.7, 0.7, -11.2)
_HIRES_THIRDS = (-30, 2, -26, 6, -22, 10, -18, 14, -14, 18, -10, 22, -6, 26, -2, 30)
_HIRES_MM = (7.4, -0.9, 6.5, -1.8, 5.5, -2.7, 4.6, -3.7, 3.7, -4.6, 2.7, -5.5, 1.8, -6.5, 0.9, -7.4)
_HDL32_THIRDS = tuple(third for low in range(16) for third in (-92 + 4 * low, -28 + 4 * low))


@dataclass(frozen=True, slots=False)
class VelodyneModel:
    """`product` is the packets' product id; per laser in firing order elevation in degrees and height in metres.

    A laser fires `laser_us` after the one before it and the first one again after `firing_us`; a block of a packet
    holds `firings` of all lasers, 32 returns.
    """

    name: str
    product: int
    elevation_deg: tuple[float, ...]
    height_m: tuple[float, ...]
    laser_us: float
    firing_us: float

    @property
    def firings(self) -> int:
        """Firings of all lasers in a block."""
        return 32 // len(self.elevation_deg)

    @property
    def block_us(self) -> float:
        """How long a block takes."""
        return self.firings * self.firing_us

    @cached_property
    def delays_us(self) -> Float64Array:
        """(32,) when each return of a block was measured, microseconds from the block's first."""
        lasers = np.arange(len(self.elevation_deg)) * self.laser_us
        return np.concatenate([firing * self.firing_us + lasers for firing in range(self.firings)])

    @cached_property
    def elevation(self) -> Float64Array:
        """(32,) radians above the horizon of each return of a block."""
        return np.radians(np.tile(np.asarray(self.elevation_deg, np.float64), self.firings))

    @cached_property
    def height(self) -> Float64Array:
        """(32,) metres by which each return's beam starts above the sensor's middle."""
        return np.tile(np.asarray(self.height_m, np.float64), self.firings)


MODELS = {
    model.name: model
    for model in (
        VelodyneModel("vlp16", 0x22, _VLP16_DEG, tuple(mm / 1e3 for mm in _VLP16_MM), 2.304, 55.296),
        VelodyneModel(
            "puck-hires", 0x24, tuple(third / 3 for third in _HIRES_THIRDS), tuple(mm / 1e3 for mm in _HIRES_MM),
            2.304, 55.296,
        ),
        VelodyneModel("hdl32e", 0x21, tuple(third / 3 for third in _HDL32_THIRDS), (0.0,) * 32, 1.152, 46.080),
    )
}  # fmt: skip
