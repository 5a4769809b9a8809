"""What lights the yard: sun, overcast sky, or lamps at night; and the weather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.simulation.draws import Draws
from fusion.simulation.mesh import floats
from fusion.simulation.noise import draw_texture
from fusion.types import Float32Array, Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Lighting:
    """The light of a scene; radiances are relative, the camera exposes for them.

    `key` (3,) is the unit direction to the sun (`key_is_lamp` false) or a lamp's place in the yard frame,
    `key_colour` and `ambient` (3,) linear RGB; `upward` says how much more light comes from above than
    from the sides (0..1), `headlight` how strong the cart's own lamp is. `brightness` is the exposure
    aimed at, `grain` the sensor noise at it, `haze` the extinction per metre.
    """

    mode: str
    rain: bool
    key: Float64Array
    key_is_lamp: bool
    key_colour: Float32Array
    ambient: Float32Array
    upward: float
    headlight: float
    brightness: float
    grain: float
    haze: float
    sky: Float32Array
    clouds: int

    @property
    def dark(self) -> bool:
        """Whether shading can hardly be told from noise, so that shape needs the LiDAR."""
        return self.mode == "night"


def draw_lighting(draws: Draws) -> Lighting:
    """The light and weather of one scene."""
    mode = draws.weighted({"day": 0.42, "overcast": 0.23, "night": 0.35})
    rain = mode != "day" and draws.chance(0.35)
    azimuth, clouds = draws.held(0, 2 * np.pi, 16), draw_texture(draws)
    if mode == "night":
        lamp = np.array([draws.held(4, 18), draws.held(-8, 8), draws.held(5.0, 8.0)])
        warmth = draws.held(0.0, 1.0)
        colour = floats([1.0, 0.86 - 0.25 * warmth, 0.7 - 0.45 * warmth])
        return Lighting(
            mode,
            rain,
            lamp,
            True,
            colour * 14.0,
            floats([0.5, 0.52, 0.6]) * draws.held(0.5, 0.8),
            0.1,
            draws.held(2.0, 5.0),
            draws.held(0.045, 0.085),
            draws.held(0.4, 0.8),
            0.012 if rain else 0.002,
            floats([[0.02, 0.025, 0.04], [0.05, 0.05, 0.06]]),
            clouds,
        )
    elevation = np.deg2rad(draws.held(18, 65))
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    if mode == "day":
        colour = floats([1.0, 0.93, 0.82]) * draws.held(1.6, 2.6)
        return Lighting(
            mode,
            rain,
            sun,
            False,
            colour,
            floats([0.42, 0.5, 0.62]),
            0.6,
            0.0,
            draws.held(0.16, 0.30),
            draws.held(0.1, 0.25),
            0.001,
            floats([[0.22, 0.42, 0.85], [0.75, 0.85, 1.0]]),
            clouds,
        )
    colour = floats([1.0, 0.97, 0.94]) * draws.held(0.25, 0.5)
    grey = draws.held(0.6, 0.9)
    return Lighting(
        mode,
        rain,
        sun,
        False,
        colour,
        floats([0.85, 0.9, 0.97]),
        0.75,
        0.0,
        draws.held(0.13, 0.25),
        draws.held(0.15, 0.35),
        0.02 if rain else 0.004,
        floats([[grey] * 3, [grey + 0.1] * 3]),
        clouds,
    )
