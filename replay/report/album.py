"""The report's pictures: every frame and sweep encoded once, however many cards show it, within a budget of bytes."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TypeAlias

import cv2
import numpy as np

from fusion.types import Float32Array, Image, UInt8Array
from replay.results.frames import FrameView

PICTURE_BUDGET = 7_000_000
LARGEST_PICTURE = 150_000
"""Bytes before base64: of all camera pictures together, and of one."""
Moment: TypeAlias = tuple[str, int]
"""A recording's name and the time, in nanoseconds, of one of its samples."""
_FIT = ((1280, 84), (960, 76), (800, 66), (640, 58), (480, 50))
_SWEEP_PIXELS = 320
_REACH_M = (14.0, 40.0)
_BEHIND_M = 3.0
_HEIGHTS_M = np.array([-0.3, 0.15, 0.7, 1.5, 2.6])
_COLOURS = np.array([[52, 66, 110], [66, 110, 170], [62, 190, 180], [240, 205, 90], [245, 110, 80]], np.float64)
"""RGB at each height; between them, linear."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A camera frame in the page: `key` names it; boxes on it are in its `width` x `height` pixels."""

    key: str
    width: int
    height: int
    data: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """A LiDAR sweep from above; the picture spans x from -`behind` to `reach` and y from -`reach` to `reach` metres."""

    key: str
    reach: float
    behind: float
    data: str


@dataclass(slots=True)
class Album:
    """Collects what the page embeds. `frames` is how many different moments will be asked for.

    A moment is one of a recording: several recordings may have pictures of the same `time_ns`.
    """

    frames: int
    budget: int = PICTURE_BUDGET
    pictures: dict[Moment, Picture] = field(default_factory=dict)
    sweeps: dict[Moment, Sweep] = field(default_factory=dict)

    @property
    def byte_size(self) -> int:
        """Characters of all embedded pictures."""
        pictures = sum(len(picture.data) for picture in self.pictures.values())
        return pictures + sum(len(sweep.data) for sweep in self.sweeps.values())

    def picture(self, view: FrameView, recording: str = "") -> Picture | None:
        """The view's camera frame, if it has one."""
        if view.image is None:
            return None
        moment = recording, view.time_ns
        if moment not in self.pictures:
            height, width = view.image.pixels.shape[:2]
            allowed = min(LARGEST_PICTURE, self.budget // max(1, self.frames))
            encoded, kind = fitted(view.image, allowed)
            key = f"frame-{len(self.pictures)}"
            self.pictures[moment] = Picture(key, width, height, data_uri(encoded, kind))
        return self.pictures[moment]

    def sweep(self, view: FrameView, recording: str = "") -> Sweep | None:
        """The view's LiDAR points from above, if it has any."""
        if view.points is None or not len(view.points):
            return None
        moment = recording, view.time_ns
        if moment not in self.sweeps:
            reach, behind = _extent(view)
            encoded = from_above(view.points, reach, behind)
            key = f"sweep-{len(self.sweeps)}"
            self.sweeps[moment] = Sweep(key, reach, behind, data_uri(encoded, "webp"))
        return self.sweeps[moment]


def data_uri(encoded: bytes, kind: str) -> str:
    """`encoded` as a data: address of an image of `kind`."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


def fitted(image: Image, allowed: int) -> tuple[bytes, str]:
    """The recorded bytes where a browser shows them and they fit `allowed`; else a JPEG that fits, or the smallest."""
    kind = {"jpg": "jpeg"}.get(image.encoding, image.encoding)
    if image.encoded and kind in ("jpeg", "png", "webp") and len(image.encoded) <= allowed:
        return image.encoded, kind
    encoded = b""
    for side, quality in _FIT:
        encoded = _jpeg(image.pixels, side, quality)
        if len(encoded) <= allowed:
            break
    return encoded, "jpeg"


def _jpeg(pixels: UInt8Array, side: int, quality: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(width, height))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)


def _extent(view: FrameView) -> tuple[float, float]:
    """Reach ahead and to the sides, and how far behind: all true objects, or else most points, within limits."""
    assert view.points is not None
    solids = [thing.box3d for thing in view.truth.objects if thing.box3d] if view.truth else []
    distances = [max(abs(box.x), abs(box.y)) + box.length for box in solids]
    wanted = max(distances) + 1 if distances else float(np.percentile(np.abs(view.points[:, :2]).max(1), 90))
    reach = float(np.clip(wanted, *_REACH_M))
    backwards = bool(np.mean(view.points[:, 0] < -_BEHIND_M) > 0.1) or any(box.x < -_BEHIND_M for box in solids)
    return round(reach, 1), round(reach, 1) if backwards else _BEHIND_M


def from_above(points: Float32Array, reach: float, behind: float) -> bytes:
    """`points` (N, 4) in the ego frame, coloured by height, forward up, left to the left; lossless WebP with alpha."""
    scale = _SWEEP_PIXELS / (2 * reach)
    rows, columns = round((reach + behind) * scale), _SWEEP_PIXELS
    low_first = points[np.argsort(points[:, 2], kind="stable")]
    row = np.floor((reach - low_first[:, 0]) * scale).astype(int)
    column = np.floor((reach - low_first[:, 1]) * scale).astype(int)
    inside = (row >= 0) & (row < rows - 1) & (column >= 0) & (column < columns - 1)
    row, column, height = row[inside], column[inside], low_first[inside, 2]
    canvas = np.zeros((rows, columns, 4), np.uint8)
    colour = np.stack([np.interp(height, _HEIGHTS_M, _COLOURS[:, c]) for c in range(3)], axis=1).astype(np.uint8)
    tall = height > 0.15
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        chosen = tall if down or right else np.ones_like(tall)
        canvas[row[chosen] + down, column[chosen] + right, :3] = colour[chosen]
        canvas[row[chosen] + down, column[chosen] + right, 3] = 255
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(canvas, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, 101])
    return bytes(encoded)
