"""LZF, the compression of PCD files: unpacked within a declared size (format: Marc Lehmann's LibLZF)."""

from __future__ import annotations

from fusion.errors import InputError

_LITERALS = 32
_MOST_A_BYTE = 88
"""Three bytes make at most 264."""


def unpack_lzf(data: bytes, size: int) -> bytes:
    """`data` unpacked to exactly `size` bytes; raises `InputError` when they are not that.

    A byte below 32 stands before so many literals and one more. Any other begins a copy of bytes already unpacked:
    its upper three bits (7: and the byte after it) plus 2 are the length, the lower five and a byte the distance.
    """
    if size > _MOST_A_BYTE * len(data):
        raise InputError(f"{len(data)} bytes that claim to unpack to {size}, which LZF cannot")
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end:
            control = data[at]
            at += 1
            if control < _LITERALS:
                stop = at + control + 1
                if stop > end:
                    raise InputError("compressed data that end inside a run of literals")
                out += data[at:stop]
                at = stop
            else:
                length = control >> 5
                if length == 7:
                    length += data[at]
                    at += 1
                distance = ((control & 31) << 8 | data[at]) + 1
                at += 1
                _copy(out, distance, length + 2)
            if len(out) > size:
                raise InputError(f"compressed data that unpack to more than the declared {size} bytes")
    except IndexError:
        raise InputError("compressed data that end inside a copy") from None
    if len(out) != size:
        raise InputError(f"compressed data that unpack to {len(out)} bytes instead of the declared {size}")
    return bytes(out)


def _copy(out: bytearray, distance: int, length: int) -> None:
    start = len(out) - distance
    if start < 0:
        raise InputError("compressed data that copy from before their beginning")
    if distance >= length:
        out += out[start : start + length]
        return
    # The copy reads what it writes: the last `distance` bytes over and over.
    pattern = out[start:]
    out += (pattern * (length // distance + 1))[:length]
