"""The `pixels` lane: a picture from the network, decoded with its size known beforehand."""

from __future__ import annotations

import cv2
import numpy as np

from fusion.errors import EvidenceError, InputError
from fusion.preparation import decode_image
from fusion.types import Image, PixelCrop, UInt8Array

MAX_BYTES = 64 * 1024
MAX_PIXELS = 512 * 512


def decode_crop(crop: PixelCrop, side: int, item: str) -> UInt8Array:
    """`crop` as (side, side, 3) uint8 RGB. Raises `EvidenceError` on anything but a small, whole picture."""
    pixels = read_crop(crop, item).pixels
    if pixels.shape[:2] != (side, side):
        return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    return pixels


def read_crop(crop: PixelCrop, item: str) -> Image:
    """`crop` in its own size. Raises `EvidenceError` on anything but a small, whole picture."""
    if len(crop.encoded) > MAX_BYTES:
        raise EvidenceError(f"{item}: its crop has {len(crop.encoded)} bytes; {MAX_BYTES} are allowed")
    try:
        return decode_image(crop.encoded, MAX_PIXELS)
    except InputError as error:
        raise EvidenceError(f"{item}: its crop cannot be read: {error}") from None
