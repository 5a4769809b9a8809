"""UDP datagrams in what a network carried: Ethernet, Linux's cooked captures or bare IP around IPv4 or IPv6."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_ETHERNET, _COOKED, _COOKED_2 = 1, 113, 276
_BARE = {12: 0, 14: 0, 101: 0, 228: 0, 229: 0, 0: 4, 108: 4}
"""Link types of IP, by how many bytes lie before it."""
_VLAN = {0x8100, 0x88A8, 0x9100}
_IP = {0x0800, 0x86DD}
_UDP = 17
OTHER, FRAGMENT, CUT = "non-UDP", "fragmented", "truncated"


@dataclass(frozen=True, slots=True)
class Datagram:
    """Who sent it, to which port, and what."""

    sender: str
    port: int
    data: bytes

    @property
    def of(self) -> tuple[str, int]:
        """What tells sensors apart: the sender and the port."""
        return self.sender, self.port


def datagram(link: int, frame: bytes) -> Datagram | str:
    """The datagram in a packet of that link type, or why there is none: `OTHER`, `FRAGMENT` or `CUT`."""
    try:
        packet = _ip(link, frame)
        return _of_ip(packet) if packet else OTHER
    except (struct.error, IndexError):
        return CUT


def _ip(link: int, frame: bytes) -> bytes:
    """The IP packet; empty where there is another one."""
    if link in _BARE:
        return frame[_BARE[link] :]
    if link == _ETHERNET:
        at = 12
        while int.from_bytes(frame[at : at + 2]) in _VLAN:
            at += 4
        (kind,) = struct.unpack_from(">H", frame, at)
        return frame[at + 2 :] if kind in _IP else b""
    if link in {_COOKED, _COOKED_2}:
        (kind,) = struct.unpack_from(">H", frame, 14 if link == _COOKED else 0)
        return frame[16 if link == _COOKED else 20 :] if kind in _IP else b""
    return b""


def _of_ip(packet: bytes) -> Datagram | str:
    if packet[0] >> 4 == 4:
        start, (protocol,) = 4 * (packet[0] & 0x0F), struct.unpack_from("B", packet, 9)
        sender, (fragment,) = str(IPv4Address(packet[12:16].ljust(4, b"\0"))), struct.unpack_from(">H", packet, 6)
        if fragment & 0x3FFF:
            return FRAGMENT
    elif packet[0] >> 4 == 6:
        start, (protocol,) = 40, struct.unpack_from("B", packet, 6)
        sender = str(IPv6Address(packet[8:24].ljust(16, b"\0")))
    else:
        return OTHER
    if protocol != _UDP:
        return OTHER
    port, length = struct.unpack_from(">2xHH", packet, start)
    data = packet[start + 8 : start + length]
    return Datagram(sender, port, data) if len(data) == length - 8 else CUT
