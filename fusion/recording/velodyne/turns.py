"""Data packets of a Velodyne LiDAR gathered into turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fusion.recording.velodyne.models import VelodyneModel
from fusion.recording.velodyne.packets import (
    BLOCKS,
    MODES,
    PACKET_BYTES,
    POSITION_BYTES,
    TURN,
    read_packet,
    since_us,
    turn_us,
)

_MAX_PACKETS = 2_048
"""Of one turn: a HDL-32E in dual mode at its slowest sends 724."""
_BACK = 100
"""How far the azimuth falls where a turn begins, hundredths of a degree; less is the motor's unevenness."""
_LATE_US = 20_000
"""How far back a packet is one that another overtook, and no clock that was set."""
_PAUSE_US, _PAUSE_NS = 250_000, 500_000_000
"""By the sensor's clock more than the slowest turn, 0.2 s; by the host's more, for a host that is late lost nothing."""
_SLOWEST_US = 200_000
"""A turn at 5 Hz: what a turn is taken to last before the azimuth has told how fast the sensor turns."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One turn's blocks in the order measured: `packets` (p,), the first from block `first` on, the last to `end`."""

    arrived_ns: int
    packets: np.ndarray
    first: int
    end: int


@dataclass(slots=True)
class TurnGatherer:
    """Feed it datagrams; it hands back whole turns. `refused` counts those that are no data of this model, by reason,
    `outside` those of a turn whose beginning was not there. A `told` model counts for packets of any product id.

    A turn ends where the azimuth falls: at zero, or where a restricted field of view begins again. What comes before
    the first such place is left out, and so is a turn with a pause in it that lets the sensor turn on by more than
    the azimuths tell.
    """

    model: VelodyneModel
    told: bool = False
    outside: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _held: list[np.ndarray] = field(default_factory=list)
    _first: int = 0
    _arrived_ns: int = 0
    _begun: bool = False
    _azimuth: int = -1
    _from: int = 0
    _turn_us: float = _SLOWEST_US
    _time_us: int = 0
    _heard_ns: int = 0
    _last: bytes = b""

    def knows(self, data: bytes) -> bool:
        """Whether a datagram has the size and the product id of this model's data."""
        return len(data) == PACKET_BYTES and data[-1] == self.model.product

    @property
    def held(self) -> int:
        """Packets of the turn that has not ended."""
        return len(self._held)

    def push(self, data: bytes, arrived_ns: int) -> Iterator[Turn]:
        """The turn that this datagram completes, if it does."""
        packet = self._checked(data)
        if packet is None:
            return
        time_us = int(packet["time_us"][0])
        passed_us = int(since_us(time_us, self._time_us)) if self._azimuth >= 0 else 0
        if -_LATE_US < passed_us < 0 or data == self._last:
            self.refused["out of order" if passed_us else "twice"] += 1
            return
        self._last = data
        azimuths = packet["blocks"]["azimuth"][0].astype(np.int64)
        unseen = self._azimuth >= 0 and self._turns_unseen(int(azimuths[0]), passed_us) > 0
        if unseen or abs(passed_us) > _PAUSE_US or abs(arrived_ns - self._heard_ns) > _PAUSE_NS:
            self._interrupt()
        self._time_us, self._heard_ns, self._from = time_us, arrived_ns, int(azimuths[0])
        self._turn_us = turn_us(azimuths, self.model) or self._turn_us
        before = np.concatenate([[self._azimuth], azimuths[:-1]])
        self._azimuth = int(azimuths[-1])
        crossed = np.flatnonzero(before - azimuths > _BACK)
        if not crossed.size:
            self._hold(packet)
            return
        end = int(crossed[0])
        if self._begun and (self._held or end):
            packets = np.concatenate([*self._held, packet] if end else self._held)
            yield Turn(self._arrived_ns if self._held else arrived_ns, packets, self._first, end or BLOCKS)
        self._held, self._first, self._arrived_ns, self._begun = [packet], end, arrived_ns, True

    def _turns_unseen(self, azimuth: int, passed_us: int) -> int:
        """Whole turns since the packet before, beyond the part of one between its azimuth and this one's."""
        return round(passed_us / self._turn_us - (azimuth - self._from) % TURN / TURN)

    def _interrupt(self) -> None:
        """Let go of the turn, which would run on into another one."""
        if self._held:
            self.refused["a turn was interrupted"] += len(self._held)
        self._held, self._begun, self._azimuth = [], False, -1

    def _hold(self, packet: np.ndarray) -> None:
        if len(self._held) == _MAX_PACKETS:
            self.refused["the sensor does not turn"] += len(self._held)
            self._held, self._begun = [], False
        if self._begun:
            self._held.append(packet)
        else:
            self.outside += 1

    def _checked(self, data: bytes) -> np.ndarray | None:
        packet = read_packet(data)
        reason = packet if isinstance(packet, str) else self._why_not(packet)
        if not isinstance(packet, str) and not reason:
            return packet
        if len(data) != POSITION_BYTES:
            self.refused[reason] += 1
        return None

    def _why_not(self, packet: np.ndarray) -> str:
        product, mode = int(packet["product"][0]), int(packet["mode"][0])
        if self.told:
            return ""
        if product != self.model.product:
            return f"product id {product:#04x}"
        return "" if mode in MODES else "return mode"
