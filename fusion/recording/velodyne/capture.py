"""Whose packets a capture of Velodyne LiDARs holds, and which of the sensors is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from fusion.errors import RecordingError
from fusion.recording.capture.capture_file import captured, check_capture, is_capture
from fusion.recording.capture.datagrams import Datagram, datagram
from fusion.recording.velodyne.models import MODELS, VelodyneModel
from fusion.recording.velodyne.packets import MODES, POSITION_BYTES, is_data

_LOOKED_AT = 1_000
"""Packets in which a capture of this format must have a data packet."""
_LISTENED_TO = 5_000
"""Packets in which the sensors are looked for: several seconds of one."""
_UNTIMED = "untimed"


def holds_velodyne(path: Path) -> bool:
    """Whether one of a file's first packets is a Velodyne's; never raises."""
    try:
        return is_capture(path) and any(is_data(found.data) for found, _ in _datagrams(path, _LOOKED_AT))
    except RecordingError:
        return False


class VelodyneCapture:
    """One sensor's packets in a `.pcap` or `.pcapng`.

    `sensor` is its address and the port it sends to, `told` whether the model is a person's word. `chosen` is
    `[ADDRESS][:PORT][?model=NAME]`, as in a live sensor's URL; needed where there are several, or the model is not in
    the packets.
    """

    def __init__(self, path: Path, chosen: str | None = None, *, salvage: bool = False) -> None:
        self.path = path
        self.damage = check_capture(path, salvage=salvage)
        address, port, named = _choice(path, chosen or "")
        first: dict[tuple[str, int], bytes] = {}
        for found, _ in _datagrams(path, _LISTENED_TO):
            if is_data(found.data):
                first.setdefault(found.of, found.data)
        fitting = [of for of in first if of[0] == (address or of[0]) and of[1] == (port or of[1])]
        if len(fitting) != 1:
            there = ", ".join(f"{_shown(of)} ({_model_name(data)})" for of, data in sorted(first.items()))
            what = "several sensors in it" if fitting else f"no Velodyne {chosen or ''}".rstrip()
            raise RecordingError(f"{path}: {what}; choose one as split, ADDRESS:PORT; there are: {there or 'none'}")
        self.sensor = fitting[0]
        self.mode = MODES.get(first[self.sensor][-2], "returns of an unknown mode")
        self.told = bool(named)
        self.model = MODELS[named] if named else self._model(first[self.sensor][-1])

    def packets(self, others: Counter[str]) -> Iterator[tuple[bytes, int]]:
        """The sensor's datagrams and when they were captured; `others` counts what else there is, by kind."""
        for found, time_ns in _datagrams(self.path, None, others):
            if found.of == self.sensor and len(found.data) != POSITION_BYTES:
                yield found.data, time_ns
            elif len(found.data) == POSITION_BYTES:
                others["position"] += 1
            else:
                others["another sensor's" if is_data(found.data) else "other UDP"] += 1

    def __str__(self) -> str:
        return _shown(self.sensor)

    def _model(self, product: int) -> VelodyneModel:
        for model in MODELS.values():
            if model.product == product:
                return model
        raise RecordingError(
            f"{self.path}: the packets of {self} have product id {product:#04x}, of no model whose beams are known; "
            f"if it is one of {', '.join(sorted(MODELS))}, give it as split, '?model=NAME'"
        )


def _datagrams(path: Path, limit: int | None, others: Counter[str] | None = None) -> Iterator[tuple[Datagram, int]]:
    """The datagrams of a capture's first `limit` packets, and when they were captured."""
    for packet in islice(captured(path), limit):
        found = _UNTIMED if packet.time_ns is None else datagram(packet.link, packet.data)
        if isinstance(found, Datagram) and packet.time_ns is not None:
            yield found, packet.time_ns
        elif others is not None:
            others[str(found)] += 1


def _choice(path: Path, chosen: str) -> tuple[str, int, str]:
    """Address, port and model that are asked for; empty or 0 where none is."""
    try:
        parts = urlsplit(f"//{chosen}")
        address, port, asked = parts.hostname or "", parts.port or 0, dict(parse_qsl(parts.query, strict_parsing=False))
    except ValueError as error:
        raise RecordingError(f"{path}: split {chosen!r} is no ADDRESS:PORT?model=NAME ({error})") from None
    if asked.keys() - {"model"} or parts.path or parts.fragment:
        raise RecordingError(f"{path}: split {chosen!r} is no ADDRESS:PORT?model=NAME")
    named = asked.get("model", "")
    if named and named not in MODELS:
        raise RecordingError(f"{path}: model {named!r} is not known; known: {', '.join(sorted(MODELS))}")
    return address, port, named


def _shown(of: tuple[str, int]) -> str:
    return f"[{of[0]}]:{of[1]}" if ":" in of[0] else f"{of[0]}:{of[1]}"


def _model_name(data: bytes) -> str:
    known = {model.product: model.name for model in MODELS.values()}
    return known.get(data[-1], f"product id {data[-1]:#04x}")
