"""`sensor_msgs/Image` and `CompressedImage` as RGB pictures.

Encodings: sensor_msgs/image_encodings.hpp. A Bayer pattern is named by its first two rows, as ROS does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.preparation import decode_image, read_header
from fusion.preparation.image import MAX_PIXELS
from fusion.types import Image, UInt8Array


@dataclass(frozen=True, slots=True)
class _Encoding:
    """Values a pixel, bytes a value, and OpenCV's code to RGB (None: it is RGB)."""

    channels: int
    bytes: int
    code: int | None


def _table() -> dict[str, _Encoding]:
    table = {
        "mono": (1, cv2.COLOR_GRAY2RGB),
        "rgb": (3, None),
        "bgr": (3, cv2.COLOR_BGR2RGB),
        "rgba": (4, cv2.COLOR_RGBA2RGB),
        "bgra": (4, cv2.COLOR_BGRA2RGB),
        "bayer_rggb": (1, cv2.COLOR_BayerRGGB2RGB),
        "bayer_bggr": (1, cv2.COLOR_BayerBGGR2RGB),
        "bayer_gbrg": (1, cv2.COLOR_BayerGBRG2RGB),
        "bayer_grbg": (1, cv2.COLOR_BayerGRBG2RGB),
    }
    found = {
        f"{name}{8 * size}": _Encoding(channels, size, code)
        for name, (channels, code) in table.items()
        for size in (1, 2)
    }
    # OpenCV's names say nothing of colour; what its users mean by them is its own order.
    found |= {"8UC1": found["mono8"], "8UC3": found["bgr8"], "8UC4": found["bgra8"]}
    uyvy, yuyv = _Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY), _Encoding(2, 1, cv2.COLOR_YUV2RGB_YUYV)
    return found | {"yuv422": uyvy, "uyvy": uyvy, "yuv422_yuy2": yuyv, "yuyv": yuyv}


_ENCODINGS = _table()


def why_no_picture(message: Any) -> str:
    """Why messages like this first one of its topic make no pictures; empty when they do."""
    if hasattr(message, "encoding"):
        return "" if message.encoding in _ENCODINGS else f"encoding {message.encoding[:32]!r}"
    try:
        read_header(bytes(message.data))
    except InputError:
        return f"format {message.format[:64]!r}"
    return ""


def size_of(message: Any) -> tuple[int, int]:
    """Width and height of the picture in a message that `why_no_picture` has nothing against."""
    if hasattr(message, "encoding"):
        return int(message.width), int(message.height)
    header = read_header(bytes(message.data))
    return header.width, header.height


def read_compressed(message: Any) -> Image:
    """The picture with its encoded bytes; raises `InputError` when it cannot be decoded or is cut short."""
    return decode_image(bytes(message.data))


def read_raw(message: Any) -> Image:
    """The picture; of 16-bit values the upper eight bits are kept.

    Raises `InputError` for an encoding that is no picture's and for sizes that do not describe the bytes.
    """
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise InputError(f"a picture in the encoding {message.encoding[:32]!r}, which is not read")
    values = _values(message, encoding)
    if encoding.bytes == 2:
        values = values >> 8
    pixels = np.ascontiguousarray(values, np.uint8)
    return Image(_rgb(pixels, message.encoding, encoding), None, message.encoding)


def _values(message: Any, encoding: _Encoding) -> NDArray[Any]:
    """(H, W) or (H, W, channels) over the message's own bytes."""
    width, height, step, size = int(message.width), int(message.height), int(message.step), len(message.data)
    pixel = encoding.channels * encoding.bytes
    if not width or not height or width * height > MAX_PIXELS:
        raise InputError(f"a picture of {width}x{height} pixels; 1 to {MAX_PIXELS} are read")
    if step < width * pixel:
        raise InputError(f"a row of {width} pixels of {pixel} bytes does not fit into the step of {step}")
    if size != step * height:
        few = "only " if size < step * height else ""
        raise InputError(f"the picture's data are {few}{size} bytes; {height} rows of {step} need {step * height}")
    number = f"{'>' if message.is_bigendian else '<'}u{encoding.bytes}"
    shape = (height, width) if encoding.channels == 1 else (height, width, encoding.channels)
    strides = (step, pixel) if encoding.channels == 1 else (step, pixel, encoding.bytes)
    return np.ndarray(shape, number, message.data, 0, strides)


def _rgb(pixels: UInt8Array, name: str, encoding: _Encoding) -> UInt8Array:
    if encoding.code is None:
        return pixels
    try:
        return np.asarray(cv2.cvtColor(pixels, encoding.code), np.uint8)
    except cv2.error:
        height, width = pixels.shape[:2]
        raise InputError(f"a picture of {width}x{height} pixels, which {name} cannot be") from None
