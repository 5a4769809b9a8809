"""Persons and forklifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.simulation import noise
from fusion.simulation.mesh import IndexArray, Mesh, ball_profile, box, capsule, merge, tube
from fusion.simulation.thing import Surface
from fusion.types import Float32Array, Float64Array

TROUSERS, VEST, SKIN, HELMET, SLEEVES, SHOES = range(6)
BODY, DARK, TYRE, STEEL, SEAT = range(5)


def person_mesh(height: float, build: float, stride: float, arms: float) -> Mesh:
    """A person facing -x. `stride` and `arms` are how far legs and arms swing, in radians; `build` widens the body."""
    s = height / 1.75
    hip, shoulder = 0.9 * s, 1.42 * s
    parts = [tube(_torso(s, build), 16, VEST, 0.72).moved(_QUARTER)]
    for side, sign in ((-1, 1.0), (1, -1.0)):
        knee = _swing(np.array([0, side * 0.1 * s, hip]), 0.44 * s, sign * stride)
        foot = _swing(knee, 0.42 * s, sign * stride * 0.6 + 0.12)
        parts += [
            capsule((0, side * 0.1 * s, hip), knee, 0.085 * s * build, TROUSERS),
            capsule(knee, foot, 0.065 * s, TROUSERS),
            capsule(foot, foot + np.array([-0.13 * s, 0, -0.01]), 0.05 * s, SHOES),
        ]
        elbow = _swing(np.array([0, side * 0.23 * s * build, shoulder]), 0.3 * s, -sign * arms)
        hand = _swing(elbow, 0.27 * s, -sign * arms - 0.35)
        parts += [
            capsule((0, side * 0.21 * s * build, shoulder), elbow, 0.055 * s, SLEEVES),
            capsule(elbow, hand, 0.045 * s, SLEEVES),
            capsule(hand, hand, 0.05 * s, SKIN),
        ]
    parts.append(capsule((0, 0, 1.58 * s), (0, 0, 1.66 * s), 0.095 * s, SKIN, 16))
    parts.append(tube(_dome(1.67 * s, 0.125 * s), 16, HELMET))
    mesh = merge(parts)
    return mesh.moved(np.eye(3), (0, 0, -float(mesh.vertices[:, 2].min())))


_QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _torso(s: float, build: float) -> Float64Array:
    profile = ball_profile(0.2 * s * build, 1.0 * s, 1.34 * s, 5)
    profile[:, 0] *= np.interp(profile[:, 1], [0.85 * s, 1.1 * s, 1.4 * s], [0.85, 0.9, 1.08])
    return profile


def _dome(low: float, radius: float) -> Float64Array:
    angle = np.linspace(0, np.pi / 2, 6)
    dome = np.stack([radius * np.cos(angle), low + radius * np.sin(angle)], 1)
    return np.concatenate([[[radius * 1.2, low - 0.005]], dome])


def _swing(start: Float64Array, length: float, angle: float) -> Float64Array:
    return np.asarray(start + length * np.array([-np.sin(angle), 0.0, -np.cos(angle)]))


def forklift_mesh(length: float, width: float, height: float, lift: float) -> Mesh:
    """A forklift facing -x, its forks raised by `lift` metres. `length` is without the forks."""
    front, rear = -length / 2, length / 2
    parts = [
        box((length * 0.9, width * 0.86, 0.42), (0.05, 0, 0.48), BODY),
        box((length * 0.36, width * 0.92, 0.75), (rear - length * 0.18, 0, 0.62), BODY),
        box((length * 0.3, width * 0.7, 0.3), (-length * 0.1, 0, 0.75), DARK),
        box((0.42, 0.46, 0.12), (0.12, 0, 0.86), SEAT),
        box((0.12, 0.46, 0.5), (0.34, 0, 1.12), SEAT),
        box((length * 0.5, width * 0.86, 0.05), (0.1, 0, height), DARK),
    ]
    for y in (-1, 1):
        side = y * width * 0.4
        parts += [
            box((0.06, 0.06, height - 0.7), (x, side, (height + 0.7) / 2), DARK)
            for x in (-length * 0.13, length * 0.34)
        ]
        for x, radius in ((-length * 0.33, 0.29), (length * 0.33, 0.24)):
            wheel = tube([[0, -0.09], [radius, -0.09], [radius, 0.09], [0, 0.09]], 20, TYRE)
            parts.append(wheel.moved(_ON_EDGE, (x, y * width * 0.45, radius)))
        parts += [
            box((0.1, 0.09, height * 0.98), (front - 0.02, y * 0.3, height * 0.51), STEEL),
            box((0.95, 0.12, 0.045), (front - 0.55, y * 0.22, lift + 0.05), STEEL),
            box((0.05, 0.12, 0.5), (front - 0.1, y * 0.22, lift + 0.28), STEEL),
        ]
    parts += [box((0.07, 0.7, 0.08), (front - 0.05, 0, z), STEEL) for z in (lift + 0.15, lift + 0.5, height - 0.1)]
    return merge(parts)


_ON_EDGE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, slots=True, eq=False)
class PartPaint:
    """One colour a part (parts, 3), some dirt, and pale bands at the heights `bands` (n, 2) of part `banded`."""

    colours: Float32Array
    gloss: Float32Array
    dirt: float
    texture: int
    reflectivity: Float32Array
    bands: Float32Array
    banded: int = -1

    def shade(self, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """See `Paint`."""
        side = np.where(np.abs(normals[:, 0]) > np.abs(normals[:, 1]), points[:, 1], points[:, 0])
        albedo = self.colours[parts]
        for low, high in self.bands:
            albedo[(parts == self.banded) & (points[:, 2] > low) & (points[:, 2] < high)] = (0.78, 0.8, 0.76)
        rough = noise.nearest(self.texture, side * 120, (points[:, 2] + 0.3 * points[:, 0]) * 120)
        albedo = albedo * np.clip(1 + self.dirt * rough, 0.3, 1.6)[:, None]
        return Surface(albedo.astype(np.float32), self.gloss[parts])
