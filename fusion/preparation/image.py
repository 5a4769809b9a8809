"""A picture → what the detector takes: safe decoding, letterboxing, scaling."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fusion.errors import InputError
from fusion.preparation.image_header import check_whole, read_header
from fusion.types import Box2D, Float32Array, Image, UInt8Array

MAX_PIXELS = 40_000_000
"""The largest picture decoded unless a caller says otherwise: 120 MB of pixels."""
PADDING_GREY = 114
_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_UNIT = np.float32(1 / 255)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies in the model's input: input = frame * scale + (dx, dy), in pixels."""

    scale: float
    dx: float
    dy: float

    def to_frame(self, box: Box2D) -> Box2D:
        """A box in input pixels, in pixels of the frame."""
        return Box2D(
            (box.x1 - self.dx) / self.scale,
            (box.y1 - self.dy) / self.scale,
            (box.x2 - self.dx) / self.scale,
            (box.y2 - self.dy) / self.scale,
        )

    def from_frame(self, box: Box2D) -> Box2D:
        """A box in pixels of the frame, in input pixels."""
        return Box2D(
            box.x1 * self.scale + self.dx,
            box.y1 * self.scale + self.dy,
            box.x2 * self.scale + self.dx,
            box.y2 * self.scale + self.dy,
        )


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a JPEG, PNG, WebP or BMP to RGB, in the orientation its pixels are stored in.

    The size is read from the header first. Raises `InputError` for anything else, for more than `max_pixels`, and
    for a file that is cut short: OpenCV fills the rest of half a JPEG with grey and says nothing.
    """
    header = read_header(data)
    if header.pixels > max_pixels:
        raise InputError(
            f"a {header.encoding} of {header.width}x{header.height} pixels; at most {max_pixels} are decoded"
        )
    check_whole(data, header)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != (header.height, header.width, 3):
        raise InputError(f"a {header.encoding} of {header.width}x{header.height} pixels that cannot be decoded")
    return Image(np.asarray(pixels, np.uint8), data, header.encoding)


def letterbox(image: UInt8Array, width: int, height: int) -> tuple[UInt8Array, Placement]:
    """`image` (H, W, 3) scaled to fit (height, width, 3) in its own proportions, centred on grey.

    An image that has the size already is returned as it is, not copied.
    """
    fit = _fit(image, width, height)
    if image.shape[:2] == (height, width):
        return image, fit.placement
    canvas = np.full((height, width, 3), PADDING_GREY, np.uint8)
    canvas[fit.rows, fit.columns] = fit.scaled(image)
    return canvas, fit.placement


def to_input(pixels: UInt8Array) -> Float32Array:
    """`pixels` (H, W, 3) uint8 as the detector's input (1, 3, H, W) float32 in 0..1."""
    height, width = pixels.shape[:2]
    planes = np.empty((1, 3, height, width), np.float32)
    _fill(planes[0], pixels)
    return planes


class InputBuffer:
    """`letterbox` and `to_input` in one, bit for bit, into memory that is kept: for a stream of pictures."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._planes = np.empty((1, 3, height, width), np.float32)
        self._padded: tuple[slice, slice] | None = None

    def fill(self, image: UInt8Array) -> tuple[Float32Array, Placement]:
        """The model's input (1, 3, height, width) of `image` (H, W, 3). It holds until the next call. Not thread-safe.

        Raises `InputError` as `letterbox` does.
        """
        fit = _fit(image, self._width, self._height)
        if self._padded != (fit.rows, fit.columns):
            self._planes[:] = np.multiply(np.uint8(PADDING_GREY), _UNIT)
            self._padded = fit.rows, fit.columns
        _fill(self._planes[0, :, fit.rows, fit.columns], fit.scaled(image))
        return self._planes, fit.placement


@dataclass(frozen=True, slots=True)
class _Fit:
    """The part of the model's input that a picture takes."""

    placement: Placement
    rows: slice
    columns: slice

    def scaled(self, image: UInt8Array) -> UInt8Array:
        """`image` in the size of that part; itself where it has it."""
        size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        if size == (image.shape[1], image.shape[0]):
            return image
        # Averaging keeps thin structures when the picture shrinks by more than half; linear is enough above that.
        method = cv2.INTER_AREA if self.placement.scale < 0.5 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _fit(image: UInt8Array, width: int, height: int) -> _Fit:
    rows, columns = image.shape[:2]
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not rows or not columns:
        raise InputError(f"a picture of shape {image.shape} and type {image.dtype}; (H, W, 3) uint8 is needed")
    scale = min(width / columns, height / rows)
    fit_width, fit_height = max(1, round(columns * scale)), max(1, round(rows * scale))
    left, top = (width - fit_width) // 2, (height - fit_height) // 2
    placement = Placement(scale, float(left), float(top))
    return _Fit(placement, slice(top, top + fit_height), slice(left, left + fit_width))


def _fill(planes: Float32Array, pixels: UInt8Array) -> None:
    """`pixels` (H, W, 3) as planes (3, H, W) in 0..1."""
    for plane, channel in zip(planes, cv2.split(pixels), strict=True):
        np.multiply(channel, _UNIT, out=plane)
