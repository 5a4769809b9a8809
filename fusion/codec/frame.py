"""One zstd frame of a known number of bytes, from senders that are not trusted."""

from __future__ import annotations

import zstandard

from fusion.errors import EvidenceError

_MAGIC = b"\x28\xb5\x2f\xfd"
_WINDOW = 1 << 20
"""The most bytes of memory a sender's frame may ask for; an item's symbols are a tenth of it."""


def pack_frame(data: bytes, level: int = 9) -> bytes:
    """`data` as one frame that says its size."""
    return zstandard.ZstdCompressor(level).compress(data)


def unpack_frame(data: bytes, size: int, what: str) -> bytes:
    """The `size` bytes of the frame that `data` is; `what` says what they are.

    Raises `EvidenceError` for anything but one frame of exactly that many.
    Allocates those and at most a window of 1 MiB.
    """
    if not data.startswith(_MAGIC):
        raise EvidenceError(f"the {what} are not a zstd frame: it does not begin as one")
    try:
        told = zstandard.get_frame_parameters(data)
        if told.content_size != size or told.window_size > _WINDOW:
            raise EvidenceError(
                f"a zstd frame that says it holds {told.content_size} {what} in a window of {told.window_size} bytes; "
                f"it must be {size} in at most {_WINDOW}"
            )
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=False) as reader:
            found: bytes = reader.read(size + 1)  # never more: what a frame says of itself is not to be trusted
        if len(found) != size:
            raise EvidenceError(f"a zstd frame of {len(found)} {what}; {size} are needed")
        whole = zstandard.ZstdDecompressor().decompressobj()
        whole.decompress(data)  # as long as was just seen
    except zstandard.ZstdError as error:
        raise EvidenceError(f"the {what} are not a zstd frame: {error}") from None
    if not whole.eof or whole.unused_data:
        raise EvidenceError(f"{len(whole.unused_data)} bytes follow the zstd frame of the {what}")
    return found
