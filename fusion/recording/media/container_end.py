"""Whether a media file is as long as its own headers say, without decoding anything.

Layouts: RIFF (see `wav`), boxes of ISO/IEC 14496-12, EBML (RFC 8794).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from fusion.recording.media.wav import OPEN_ENDED, find_sound
from fusion.recording.native.stream import opened

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}


def missing_bytes(path: Path) -> int:
    """How many bytes the headers of a WAV, AVI, MP4, MOV, Matroska or WebM file promise behind its end.

    0 for a whole file, for headers that leave the length open, and for anything else. Raises `RecordingError` when
    the file cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        file.seek(0)
        if head[:4] in {b"RIFF", b"RIFX", b"RF64"}:
            end = _wav_end(file) if head[8:12] == b"WAVE" else _riff_end(file, size)
        elif head[4:8] in _BOXES:
            end = _boxes_end(file, size)
        else:
            end = _segment_end(file) if head[:4] == _EBML else 0
    return max(0, end - size)


def _wav_end(file: BinaryIO) -> int:
    """End of the chunk `data`."""
    place = find_sound(file)
    return 0 if place is None or place.length is None else place.start + place.length


def _riff_end(file: BinaryIO, size: int) -> int:
    """End of the last RIFF chunk; large AVI files have several."""
    end = 0
    while end < size and len(chunk := file.read(8)) == 8 and chunk[:4] == b"RIFF":
        length = int(struct.unpack("<I", chunk[4:])[0])
        if length in {0, OPEN_ENDED}:
            return 0
        end += 8 + length
        file.seek(end)
    return end


def _boxes_end(file: BinaryIO, size: int) -> int:
    end = 0
    while end < size and len(box := file.read(8)) == 8:
        length = int(struct.unpack(">I", box[:4])[0])
        if length == 1 and len(wide := file.read(8)) == 8:
            length = int(struct.unpack(">Q", wide)[0])
        if length < 8:  # 0: up to the end of the file; less is no box
            return 0
        end += length
        file.seek(min(end, size))
    return end


def _segment_end(file: BinaryIO) -> int:
    """End of the first segment, which holds everything."""
    while len(name := file.read(4)) == 4:
        length = _ebml_length(file)
        if length is None or name not in {_EBML, _SEGMENT}:
            return 0
        if name == _SEGMENT:
            return file.tell() + length
        file.seek(length, os.SEEK_CUR)
    return 0


def _ebml_length(file: BinaryIO) -> int | None:
    """A variable-length number; None when it says that the length is not known."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    rest = file.read(extra)
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + rest, "big")
    return None if len(rest) < extra or value == (1 << 7 * (extra + 1)) - 1 else value
