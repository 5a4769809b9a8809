"""Data packets of Velodyne LiDARs gathered into turns, and turns made into sweeps.

A packet (VLP-16 User Manual, 63-9243, chapter 9) is 12 blocks of 100 bytes and a tail of 6: flag FF EE, azimuth in
hundredths of a degree clockwise from the y axis, 32 times distance in 2 mm and reflectivity; then the time of the first
return in microseconds of the hour, return mode, and product id. Numbers are little-endian.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_node.live.velodyne_models import VelodyneModel
from fusion.types import Float64Array, PointCloud

PACKET_BYTES = 1206
BLOCKS = 12
POSITION_BYTES = 512
_TURN = 36_000
_HOUR_US = 3_600_000_000
_DUAL = 0x39
_MODES = {0x37, 0x38, _DUAL}
_RETURN = np.dtype([("distance", "<u2"), ("reflectivity", "u1")])
_BLOCK = np.dtype([("flag", "<u2"), ("azimuth", "<u2"), ("returns", _RETURN, 32)])
_PACKET = np.dtype([("blocks", _BLOCK, BLOCKS), ("time_us", "<u4"), ("mode", "u1"), ("product", "u1")])
_MAX_PACKETS = 2_048
"""Of one turn: a HDL-32E in dual mode at its slowest sends 724."""
_MAX_STEP = 500
"""Between blocks, hundredths of a degree: what may count towards the usual step."""
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
    """Feed it datagrams; it hands back whole turns. `refused` counts those that are no data of this model, by reason.

    A turn ends where the azimuth falls: at zero, or where a restricted field of view begins again. What comes before
    the first such place is left out, and so is a turn with a pause in it that lets the sensor turn on by more than
    the azimuths tell.
    """

    model: VelodyneModel
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

    def knows(self, data: bytes) -> bool:
        """Whether a datagram has the size and the product id of this model's data."""
        return len(data) == PACKET_BYTES and data[-1] == self.model.product

    def push(self, data: bytes, arrived_ns: int) -> Iterator[Turn]:
        """The turn that this datagram completes, if it does."""
        packet = self._checked(data)
        if packet is None:
            return
        time_us = int(packet["time_us"][0])
        since_us = int(_since_us(time_us, self._time_us)) if self._azimuth >= 0 else 0
        if -_LATE_US < since_us < 0:
            self.refused["out of order"] += 1
            return
        azimuths = packet["blocks"]["azimuth"][0].astype(np.int64)
        unseen = self._azimuth >= 0 and self._turns_unseen(int(azimuths[0]), since_us) > 0
        if unseen or abs(since_us) > _PAUSE_US or abs(arrived_ns - self._heard_ns) > _PAUSE_NS:
            self._interrupt()
        self._time_us, self._heard_ns, self._from = time_us, arrived_ns, int(azimuths[0])
        self._turn_us = _turn_us(azimuths, self.model) or self._turn_us
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

    def _turns_unseen(self, azimuth: int, since_us: int) -> int:
        """Whole turns since the packet before, beyond the part of one between its azimuth and this one's."""
        return round(since_us / self._turn_us - (azimuth - self._from) % _TURN / _TURN)

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

    def _checked(self, data: bytes) -> np.ndarray | None:
        packet = np.frombuffer(data, _PACKET) if len(data) == PACKET_BYTES else None
        reason = self._why_not(packet)
        if not reason:
            return packet
        if len(data) != POSITION_BYTES:
            self.refused[reason] += 1
        return None

    def _why_not(self, packet: np.ndarray | None) -> str:
        if packet is None:
            return "size"
        blocks = packet["blocks"][0]
        if (blocks["flag"] != 0xEEFF).any() or (blocks["azimuth"] >= _TURN).any():
            return "content"
        if int(packet["product"][0]) != self.model.product:
            return f"product id {int(packet['product'][0]):#04x}"
        return "" if int(packet["mode"][0]) in _MODES else "return mode"


def _since_us(time_us: Any, before_us: Any) -> Any:
    """Microseconds from one time of the hour to another, the shorter way round."""
    return (time_us - before_us + _HOUR_US // 2) % _HOUR_US - _HOUR_US // 2


def _turn_us(azimuths: np.ndarray, model: VelodyneModel) -> float:
    """How long a turn takes at the speed at which the azimuth rises in a packet; 0 where it does not."""
    step = _usual_step(np.diff(azimuths) % _TURN)
    return _TURN / step * model.block_us if step else 0.0


def _usual_step(steps: np.ndarray) -> float:
    usual = steps[(steps > 0) & (steps < _MAX_STEP)]
    return float(np.median(usual)) if usual.size else 0.0


def sweep(turn: Turn, model: VelodyneModel) -> PointCloud:
    """Points in the sensor's frame (x forward along the azimuth 0, y left, z up), intensity is reflectivity / 255.

    Offsets are those of each laser's shot from the first of the turn. Of dual returns the last one is taken.
    """
    packets = turn.packets
    dual = packets["mode"] == _DUAL
    place = np.arange(BLOCKS)
    start_us = np.where(dual[:, None], place // 2, place) * model.block_us  # (p, 12)
    time_us = packets["time_us"].astype(np.int64)
    start_us = start_us + _since_us(time_us, time_us[0])[:, None]
    chosen = ~dual[:, None] | (place % 2 == 0)
    chosen[0, : turn.first] = False
    chosen[-1, turn.end :] = False
    blocks, start_us = packets["blocks"][chosen], start_us[chosen]  # (b,)
    if not len(blocks):
        return PointCloud(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    offsets_us = (start_us - start_us[0])[:, None] + model.delays_us  # (b, 32)
    azimuth = _azimuths(blocks["azimuth"].astype(np.float64), model)
    distance = blocks["returns"]["distance"] * 0.002
    hit = distance > 0
    points = np.empty((np.count_nonzero(hit), 4), np.float32)
    level = distance * np.cos(model.elevation)
    points[:, 0] = (level * np.cos(azimuth))[hit]
    points[:, 1] = (-level * np.sin(azimuth))[hit]
    points[:, 2] = (distance * np.sin(model.elevation) + model.height)[hit]
    points[:, 3] = blocks["returns"]["reflectivity"][hit] / 255
    return PointCloud(points, (offsets_us[hit] * 1e-6).astype(np.float32))


def _azimuths(blocks: Float64Array, model: VelodyneModel) -> Float64Array:
    """(b, 32) radians, clockwise: a block's azimuth (b,) in hundredths of a degree is that of its first return."""
    steps = np.diff(blocks, append=blocks[-1]) % _TURN
    step = _usual_step(steps)
    steps = np.where((steps > 0) & (steps < 2 * step), steps, step)  # a wider one is a lost packet
    return np.asarray(np.radians((blocks[:, None] + steps[:, None] * model.delays_us / model.block_us) / 100))
