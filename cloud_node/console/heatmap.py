"""Feature maps as a picture: how much there is in each cell."""

from __future__ import annotations

import cv2
import numpy as np

from fusion.codec import Profile, decode_maps, unpack_gates
from fusion.types import Float32Array, GatedMaps, UInt8Array

OPACITY = 235


def energy_map(profile: Profile, gated: GatedMaps) -> Float32Array:
    """Energy of the whole frame (H, W) in cells of the finest level, 0..1; NaN where nothing was sent.

    A cell's energy is the length of its feature vector, divided by the largest of its level; levels are averaged.
    Raises `EvidenceError` for maps that cannot be decoded.
    """
    height, width = profile.map_size(0)
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    maps, gates = decode_maps(profile, gated), unpack_gates(profile, gated)
    for level, window, codes, gate in zip(profile.levels, gated.windows, maps, gates, strict=True):
        if not gate.any():
            continue
        energy = np.linalg.norm(codes * level.step[:, None, None], axis=0) * gate
        times = level.stride // profile.levels[0].stride
        area = (
            slice(window.y * times, (window.y + window.height) * times),
            slice(window.x * times, (window.x + window.width) * times),
        )
        total[area] += _enlarged(energy / (energy.max() or 1.0), times)
        count[area] += _enlarged(gate.astype(np.float32), times)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count, np.float32)


def heatmap_png(energy: Float32Array) -> bytes:
    """`energy` as a PNG, a pixel a cell, dark for little to bright for much; clear where nothing was sent."""
    levels = np.nan_to_num(np.clip(energy, 0, 1) * 255).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2BGRA)
    picture[..., 3] = np.where(np.isnan(energy), 0, OPACITY)
    return _png(np.asarray(picture, np.uint8))


def picture_png(pixels: UInt8Array) -> bytes:
    """RGB `pixels` (H, W, 3) as a PNG."""
    return _png(np.ascontiguousarray(pixels[..., ::-1]))


def _enlarged(cells: Float32Array, times: int) -> Float32Array:
    return np.asarray(np.repeat(np.repeat(cells, times, 0), times, 1), np.float32)


def _png(pixels: UInt8Array) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
