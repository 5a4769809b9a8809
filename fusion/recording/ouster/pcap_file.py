"""Whether a packet capture is whole: its record headers, walked without reading the packets.

Libraries that read captures end quietly where a file is cut off. Formats: draft-ietf-opsawg-pcap and -pcapng.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fusion.errors import RecordingError
from fusion.recording.native.stream import opened

_PCAP = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_NG_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_NG_PACKETS = (2, 3, 6)
_HEADER_BYTES = 24
_MAX_PACKET_BYTES = 1 << 20
_MAX_BLOCK_BYTES = 16 << 20


def is_capture(path: Path) -> bool:
    """A file that begins like a capture, or is called one; never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return False
    return head in _PCAP or head == _PCAPNG or path.suffix in {".pcap", ".pcapng"}


def check_capture(path: Path, *, salvage: bool = False) -> str:
    """Walk over the capture; "" when it is whole. Damage raises `RecordingError`; with `salvage` it is returned."""
    with opened(path) as file:
        walk = _Walk(file)
        try:
            walk.to_the_end()
        except RecordingError as error:
            what = f"{path}: damaged at byte {walk.at}: {error}; {walk.packets} packets before it are sound"
            if walk.packets and salvage:
                return what
            rescue = "; open it with salvage to read them" if walk.packets else ""
            raise RecordingError(what + rescue) from None
    return ""


@dataclass(slots=True)
class _Walk:
    """`at` is where the record begins that is looked at, `packets` counts those before it."""

    file: BinaryIO
    at: int = 0
    packets: int = 0
    _order: str | None = None

    def to_the_end(self) -> None:
        size = self.file.seek(0, 2)
        self.file.seek(0)
        magic = self.file.read(4)
        if magic != _PCAPNG and magic not in _PCAP:
            raise RecordingError("a capture does not begin like this")
        self.file.seek(0)
        if magic in _PCAP:
            self._exactly(_HEADER_BYTES)
        while self.file.tell() < size:
            self.at = self.file.tell()
            length, packets = self._block() if magic == _PCAPNG else (self._packet(_PCAP[magic]), 1)
            if length > size - self.file.tell():
                raise RecordingError("it ends inside a packet")
            self.file.seek(length, 1)
            self.packets += packets

    def _packet(self, order: str) -> int:
        (length,) = struct.unpack(f"{order}8xI4x", self._exactly(16))
        if length > _MAX_PACKET_BYTES:
            raise RecordingError(f"a packet that claims {length} bytes; at most {_MAX_PACKET_BYTES} are read")
        return int(length)

    def _block(self) -> tuple[int, int]:
        head = self._exactly(12)
        if head[:4] == _PCAPNG:
            self._order = _NG_ORDER.get(head[8:])
        if self._order is None:
            raise RecordingError("a section whose byte order is not told")
        kind, length = struct.unpack(f"{self._order}II", head[:8])
        if length < 12 or length % 4 or length > _MAX_BLOCK_BYTES:
            raise RecordingError(f"a block that claims {length} bytes")
        return int(length) - len(head), int(kind in _NG_PACKETS)

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) != size:
            raise RecordingError("it ends inside a packet's header")
        return data
