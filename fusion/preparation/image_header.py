"""What a picture file says of itself, read before any decoder sees it (JPEG, PNG, WebP, BMP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fusion.errors import InputError

_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB\x60\x82"
_JPEG_PIXELS_PER_BYTE = 1024
"""Huffman coding spends at least one bit on a block of 64 pixels, so no real JPEG holds more than 512 a byte."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Encoding (`jpeg`, `png`, `webp` or `bmp`) and size in pixels, as declared."""

    encoding: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """How many pixels are declared."""
        return self.width * self.height


def read_header(data: bytes) -> ImageHeader:
    """What `data` declares itself to be. Raises `InputError` when it is none of the four encodings or has no size."""
    for encoding, magic, size in _READERS:
        if magic(data):
            try:
                width, height = size(data)
            except IndexError:
                width = height = 0
            if width < 1 or height < 1:
                raise InputError(f"a {encoding} of {len(data)} bytes whose header does not tell its size")
            return ImageHeader(encoding, width, height)
    raise InputError(f"{len(data)} bytes that are no JPEG, PNG, WebP or BMP")


def check_whole(data: bytes, header: ImageHeader) -> None:
    """Raise `InputError` when the file is cut short, or is far too small for the pixels it declares."""
    if header.encoding == "jpeg":
        if header.pixels > _JPEG_PIXELS_PER_BYTE * len(data):
            raise InputError(f"a jpeg of {len(data)} bytes cannot hold the {header.width}x{header.height} it declares")
        whole = data.rfind(_END_OF_IMAGE) > _scan_start(data) > 0
    elif header.encoding == "png":
        whole = _PNG_END in data[-1024:]
    elif header.encoding == "webp":
        whole = len(data) >= int.from_bytes(data[4:8], "little") + 8
    else:
        whole = len(data) >= int.from_bytes(data[2:6], "little")
    if not whole:
        raise InputError(f"a {header.encoding} of {header.width}x{header.height} pixels that is cut short")


def _jpeg_segment(data: bytes, wanted: Callable[[int], bool]) -> int:
    """Position of the first marker segment that is `wanted`, 0 when there is none before the scan ends the walk."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return 0
        marker = data[at + 1]
        if wanted(marker):
            return at
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == _START_OF_SCAN:
            return 0
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return 0


def _scan_start(data: bytes) -> int:
    return _jpeg_segment(data, lambda marker: marker == _START_OF_SCAN)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = _jpeg_segment(data, lambda marker: marker in _STARTS_OF_FRAME)
    if not at or at + 9 > len(data):
        return 0, 0
    return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return 0, 0
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0


def _bmp_size(data: bytes) -> tuple[int, int]:
    if len(data) < 26 or int.from_bytes(data[14:18], "little") < 40:
        return 0, 0
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return width, abs(height)


_READERS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], tuple[int, int]]], ...] = (
    ("jpeg", lambda data: data.startswith(b"\xff\xd8"), _jpeg_size),
    ("png", lambda data: data.startswith(_PNG_SIGNATURE), _png_size),
    ("webp", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp_size),
    ("bmp", lambda data: data.startswith(b"BM"), _bmp_size),
)
