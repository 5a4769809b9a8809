"""What a capture of the newer format says of the interface it was recorded at."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_RESOLUTION, _OFFSET = 9, 14


@dataclass(frozen=True, slots=True)
class Interface:
    """The link type, how many ticks of its clock a second has, and seconds to be added."""

    link: int = 0
    ticks: int = 1_000_000
    offset_s: int = 0

    def time_ns(self, ticks: int) -> int | None:
        """Nanoseconds since 1970; None outside 0..2^63-1, which no clock tells."""
        found = ticks * 1_000_000_000 // self.ticks + self.offset_s * 1_000_000_000
        return found if 0 <= found < 1 << 63 else None


def interface(body: bytes, order: str) -> Interface:
    """Read an interface description block from its `body`; what cannot be read stays as it is by default."""
    if len(body) < 8:
        return Interface()
    (link,) = struct.unpack_from(f"{order}H", body)
    at = 8
    found: dict[int, bytes] = {}
    while at + 4 <= len(body):
        code, length = struct.unpack_from(f"{order}HH", body, at)
        found.setdefault(code, body[at + 4 : at + 4 + length])
        at += 4 + length + -length % 4
        if not code:
            break
    ticks, offset_s = 1_000_000, 0
    if len(found.get(_RESOLUTION, b"")) == 1:
        power = found[_RESOLUTION][0]
        ticks = 2 ** (power & 0x7F) if power & 0x80 else 10**power
    if len(found.get(_OFFSET, b"")) == 8:
        (offset_s,) = struct.unpack(f"{order}q", found[_OFFSET])
    return Interface(link, ticks, offset_s)
