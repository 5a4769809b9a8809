"""The camera: one ray a pixel, light and shadow, then what the optics and the sensor do to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from fusion.geometry import CameraCalibration
from fusion.simulation import noise
from fusion.simulation.ground import Ground
from fusion.simulation.light import Lighting
from fusion.simulation.mesh import IndexArray
from fusion.simulation.thing import Surface
from fusion.simulation.world import GROUND, SKY, Hits, Int64Array, World
from fusion.types import Float32Array, Float64Array, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture (H, W, 3) uint8 RGB, and whose each pixel is (H, W): a thing's index, GROUND or SKY."""

    pixels: UInt8Array
    owners: IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the pixels `rows` (m,) show: yard `points`, unit `normals`, rays `towards` them (m, 3), `distance` (m,)."""

    rows: Int64Array
    points: Float32Array
    normals: Float32Array
    towards: Float32Array
    distance: Float32Array
    surface: Surface


def render(
    world: World,
    ground: Ground,
    lighting: Lighting,
    calibration: CameraCalibration,
    yard_from_ego: Float64Array,
    rng: np.random.Generator,
    blur: tuple[float, float] = (0.0, 0.0),
) -> Frame:
    """The picture from a cart at `yard_from_ego` (4, 4); `blur` is how far it moves in pixels while exposed."""
    yard_from_camera = yard_from_ego @ calibration.ego_from_camera
    origin = yard_from_camera[:3, 3].astype(np.float32)
    directions = _pixel_rays(calibration.width, calibration.height, float(calibration.k[0, 0]))
    directions = directions @ yard_from_camera[:3, :3].T.astype(np.float32)
    hits = world.cast(origin, directions)
    seen = _surfaces(world, ground, hits, origin, directions)
    shape = (calibration.height, calibration.width)
    lit = _shadow(world, lighting, seen, shape)
    radiance = _sky(lighting, directions)
    radiance[seen.rows] = _shade(lighting, seen, lit)
    linear = _expose(radiance, seen.rows, lighting)
    pixels = _develop(linear.reshape(*shape, 3), lighting, rng, blur)
    return Frame(pixels, hits.owner.reshape(shape))


def look(world: World, calibration: CameraCalibration, yard_from_ego: Float64Array) -> IndexArray:
    """Only whose each pixel (H, W) is, without light."""
    yard_from_camera = yard_from_ego @ calibration.ego_from_camera
    directions = _pixel_rays(calibration.width, calibration.height, float(calibration.k[0, 0]))
    turned = directions @ yard_from_camera[:3, :3].T.astype(np.float32)
    hits = world.cast(yard_from_camera[:3, 3].astype(np.float32), turned)
    return hits.owner.reshape(calibration.height, calibration.width)


@lru_cache(maxsize=4)
def _pixel_rays(width: int, height: int, focal: float) -> Float32Array:
    """Unit rays (H*W, 3) in the optical frame, each through a fixed random place of its pixel."""
    jitter = np.random.default_rng(5).uniform(-0.15, 0.15, (2, height, width))
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack(
        [(u + jitter[0] - width / 2) / focal, (v + jitter[1] - height / 2) / focal, np.ones_like(u)], axis=2
    )
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    return np.asarray(rays.reshape(-1, 3), np.float32)


def _surfaces(world: World, ground: Ground, hits: Hits, origin: Float32Array, directions: Float32Array) -> Seen:
    rows = np.flatnonzero(hits.owner != SKY)
    towards, distance = directions[rows], hits.distance[rows]
    points = origin + towards * distance[:, None]
    normals = np.zeros_like(points)
    normals[:, 2] = 1
    owner = hits.owner[rows]
    albedo, gloss = np.empty_like(points), np.empty(len(rows), np.float32)
    floor = np.flatnonzero(owner == GROUND)
    albedo[floor], gloss[floor] = ground.shade(points[floor, 0], points[floor, 1], distance[floor])
    solid = np.flatnonzero(owner >= 0)
    normals[solid] = world.normals(hits, rows[solid], directions)
    parts = world.parts(hits, rows[solid])
    holders = owner[solid]
    for index in np.unique(holders):
        mine = np.flatnonzero(holders == index)
        at = solid[mine]
        albedo[at], gloss[at] = world.surface(int(index), points[at], normals[at], parts[mine])
    return Seen(rows, points, normals, towards, distance, Surface(albedo, gloss))


def _shadow(world: World, lighting: Lighting, seen: Seen, shape: tuple[int, int]) -> Float32Array:
    """How much of the key light reaches each seen pixel (m,), from a half-resolution pass."""
    height, width = shape
    place = np.full(height * width, -1, np.int32)
    place[seen.rows] = np.arange(len(seen.rows), dtype=np.int32)
    coarse = place.reshape(shape)[::2, ::2].reshape(-1)
    known = np.flatnonzero(coarse >= 0)
    start = seen.points[coarse[known]] + seen.normals[coarse[known]] * np.float32(0.02)
    key = lighting.key.astype(np.float32)
    to_light = key - start if lighting.key_is_lamp else np.broadcast_to(key, start.shape)
    lit = np.ones(len(coarse), np.float32)
    lit[known] = ~world.blocked(start, to_light, 1.0 if lighting.key_is_lamp else np.inf)
    full = cv2.resize(lit.reshape(height // 2, width // 2), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full.reshape(-1)[seen.rows], np.float32)


def _shade(lighting: Lighting, seen: Seen, lit: Float32Array) -> Float32Array:
    normals = seen.normals
    key = lighting.key.astype(np.float32)
    if lighting.key_is_lamp:
        to_key = key - seen.points
        square = np.einsum("ij,ij->i", to_key, to_key)
        to_key /= np.sqrt(square)[:, None]
        cosine = np.einsum("ij,ij->i", normals, to_key) / np.maximum(square, 4.0)
    else:
        to_key = np.broadcast_to(key, normals.shape)
        cosine = normals @ key
    direct = np.maximum(cosine, 0) * lit
    sky = np.float32(1 - lighting.upward / 2) + np.float32(lighting.upward / 2) * normals[:, 2]
    light = sky[:, None] * lighting.ambient + direct[:, None] * lighting.key_colour
    if lighting.headlight:
        facing = np.maximum(-np.einsum("ij,ij->i", normals, seen.towards), 0) * 0.35 + 0.65
        light += (lighting.headlight * facing / np.maximum(seen.distance, 3.0) ** 2)[:, None]
    radiance = seen.surface.albedo * light
    shiny = np.flatnonzero(seen.surface.gloss > 0.02)
    mirror = (
        seen.towards[shiny] - 2 * np.einsum("ij,ij->i", seen.towards[shiny], normals[shiny])[:, None] * normals[shiny]
    )
    glint = np.clip(np.einsum("ij,ij->i", mirror, to_key[shiny]), 0, 1) ** 24 * lit[shiny]
    fresnel = 0.04 + 0.5 * (1 + np.einsum("ij,ij->i", seen.towards[shiny], normals[shiny])) ** 4
    open_sky = np.clip(mirror[:, 2] * 2, 0, 1) * fresnel
    strength = float(lighting.key_colour.mean()) / (60.0 if lighting.key_is_lamp else 3.0)
    gloss = seen.surface.gloss[shiny]
    radiance[shiny] += (gloss * glint * strength)[:, None] + (gloss * open_sky)[:, None] * lighting.sky[1]
    veil = np.exp(seen.distance * np.float32(-lighting.haze))[:, None]
    return np.asarray(radiance * veil + (1 - veil) * lighting.sky[1] * 0.6, np.float32)


def _sky(lighting: Lighting, directions: Float32Array) -> Float32Array:
    up = np.clip(directions[:, 2], 0, 1)[:, None]
    clouds = noise.smooth(lighting.clouds, directions[:, 0] * 300, directions[:, 1] * 300 + directions[:, 2] * 200)[
        :, None
    ]
    blend = np.clip(1.6 * up + 0.12 * clouds, 0, 1)
    return np.asarray(lighting.sky[1] * (1 - blend) + lighting.sky[0] * blend, np.float32)


def _expose(radiance: Float32Array, rows: Int64Array, lighting: Lighting) -> Float32Array:
    """Scales a picture so that what is not sky averages the exposure's aim."""
    mean = float(radiance[rows[::37]].mean()) if len(rows) else 1.0
    return radiance * np.float32(lighting.brightness / max(mean, 1e-6))


def _develop(
    linear: Float32Array, lighting: Lighting, rng: np.random.Generator, blur: tuple[float, float]
) -> UInt8Array:
    height, width = linear.shape[:2]
    picture = np.sqrt(np.clip(linear * _vignette(width, height), 0, 1))
    if lighting.rain:
        picture = _streaks(picture, rng)
    picture = cv2.GaussianBlur(picture, (3, 3), 0.6)
    if max(abs(blur[0]), abs(blur[1])) >= 1:
        picture = cv2.filter2D(picture, -1, _smear(*blur))
    grain = rng.standard_normal(picture.shape, np.float32)
    grain *= np.float32(0.042 * lighting.grain)
    picture += grain
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), np.uint8)


@lru_cache(maxsize=4)
def _vignette(width: int, height: int) -> Float32Array:
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    return np.asarray(1 - 0.22 * (x**2 + y**2)[..., None] / 2, np.float32)


def _streaks(picture: Float32Array, rng: np.random.Generator) -> Float32Array:
    height, width = picture.shape[:2]
    layer = np.zeros((height, width), np.float32)
    slant = rng.normal(0, 0.12)
    for _ in range(int(rng.integers(120, 320))):
        x, y, length = rng.uniform(0, width), rng.uniform(-20, height), rng.uniform(8, 26)
        cv2.line(layer, (int(x), int(y)), (int(x + slant * length), int(y + length)), float(rng.uniform(0.04, 0.13)), 1)
    return np.asarray(picture + cv2.blur(layer, (1, 3))[..., None], np.float32)


def _smear(dx: float, dy: float) -> Float32Array:
    size = 2 * int(np.ceil(max(abs(dx), abs(dy)) / 2)) + 1
    kernel = np.zeros((size, size), np.float32)
    middle = (size - 1) / 2
    start, end = (middle - dx / 2, middle - dy / 2), (middle + dx / 2, middle + dy / 2)
    cv2.line(kernel, (round(start[0]), round(start[1])), (round(end[0]), round(end[1])), 1.0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)
