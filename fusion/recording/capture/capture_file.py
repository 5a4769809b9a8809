"""The packets of a network capture, and whether it is whole.

Libraries that read captures end quietly where a file is cut off. Formats: draft-ietf-opsawg-pcap and -pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fusion.errors import RecordingError
from fusion.recording.capture.interfaces import Interface, interface
from fusion.recording.native.stream import opened

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""By a file's first bytes: its byte order, and the nanoseconds of the second number of a time."""
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_NG_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_NG_INTERFACE, _NG_OLD, _NG_SIMPLE, _NG_ENHANCED = 1, 2, 3, 6
_NG_PACKETS = {_NG_OLD: "HxxIIII", _NG_ENHANCED: "IIIII"}
_MAX_PACKET_BYTES = 1 << 20
_MAX_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Captured:
    """A packet as the recorder saw it: `time_ns` since 1970, None where none was written, and its bytes from the layer
    on that the link type `link` names (tcpdump.org/linktypes.html), of a long one the first alone.
    """

    time_ns: int | None
    link: int
    data: bytes


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
            for _ in walk.packets(read=False):
                pass
        except RecordingError as error:
            what = f"{path}: damaged at byte {walk.at}: {error}; {walk.count} packets before it are sound"
            if walk.count and salvage:
                return what
            rescue = "; open it with salvage to read them" if walk.count else ""
            raise RecordingError(what + rescue) from None
    return ""


def captured(path: Path) -> Iterator[Captured]:
    """The packets in the order they were captured, up to the first damage: `check_capture` tells of it."""
    with opened(path) as file:
        try:
            yield from _Walk(file).packets(read=True)
        except RecordingError:
            return


@dataclass(slots=True)
class _Walk:
    """`at` is where the record begins that is looked at, `count` tells the packets before it."""

    file: BinaryIO
    at: int = 0
    count: int = 0
    _size: int = 0
    _order: str | None = None
    _unit_ns: int = 1
    _link: int = 0
    _interfaces: list[Interface] = field(default_factory=list)

    def packets(self, *, read: bool) -> Iterator[Captured]:
        """The packets; without `read` they are passed over and have no bytes."""
        self._size = self.file.seek(0, 2)
        self.file.seek(0)
        magic = self.file.read(4)
        if magic != _PCAPNG and magic not in _PCAP:
            raise RecordingError("a capture does not begin like this")
        if magic == _PCAPNG:
            self.file.seek(0)
        else:
            self._order, self._unit_ns = _PCAP[magic]
            (self._link,) = struct.unpack(f"{self._order}16xHxx" if self._order == "<" else ">18xH", self._exactly(20))
        while self.file.tell() < self._size:
            self.at = self.file.tell()
            yield from self._block(read) if magic == _PCAPNG else self._packet(read)

    def _packet(self, read: bool) -> Iterator[Captured]:
        seconds, rest, length, _ = struct.unpack(f"{self._order}IIII", self._exactly(16))
        if length > _MAX_PACKET_BYTES:
            raise RecordingError(f"a packet that claims {length} bytes; at most {_MAX_PACKET_BYTES} are read")
        data = self._pass(length, read)
        self.count += 1
        yield Captured(seconds * 1_000_000_000 + rest * self._unit_ns, self._link, data)

    def _block(self, read: bool) -> Iterator[Captured]:
        head = self._exactly(12)
        if head[:4] == _PCAPNG:
            self._order, self._interfaces = _NG_ORDER.get(head[8:]), []
        if self._order is None:
            raise RecordingError("a section whose byte order is not told")
        kind, length = struct.unpack(f"{self._order}II", head[:8])
        if length < 12 or length % 4 or length > _MAX_BLOCK_BYTES:
            raise RecordingError(f"a block that claims {length} bytes")
        body = self._pass(length - len(head), read or kind == _NG_INTERFACE)
        if kind == _NG_INTERFACE and head[:4] != _PCAPNG:
            self._interfaces.append(interface(head[8:] + body[:-4], self._order))
        elif kind in {_NG_OLD, _NG_SIMPLE, _NG_ENHANCED}:
            self.count += 1
            yield self._of_block(kind, head[8:] + body[:-4]) if read else Captured(None, 0, b"")

    def _of_block(self, kind: int, body: bytes) -> Captured:
        layout = f"{self._order}{_NG_PACKETS.get(kind, '')}"
        if kind == _NG_SIMPLE or len(body) < struct.calcsize(layout):
            return Captured(None, self._interfaces[0].link if self._interfaces else 0, body[4:])
        number, high, low, length, _ = struct.unpack_from(layout, body)
        start = struct.calcsize(layout)
        if number >= len(self._interfaces):
            return Captured(None, 0, body[start : start + length])
        of = self._interfaces[number]
        return Captured(of.time_ns(high << 32 | low), of.link, body[start : start + length])

    def _pass(self, size: int, read: bool) -> bytes:
        if size > self._size - self.file.tell():
            raise RecordingError("it ends inside a packet")
        if read:
            return self._exactly(size)
        self.file.seek(size, 1)
        return b""

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) != size:
            raise RecordingError("it ends inside a packet's header")
        return data
