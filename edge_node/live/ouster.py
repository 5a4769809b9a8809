"""Ouster LiDARs: `ouster://0.0.0.0:7502?metadata=FILE` listens for one sensor's packets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from edge_node.live.datagrams import Datagrams
from edge_node.live.drivers import Mount, address, library, query, shown
from fusion.errors import ConfigError, RecordingError, SensorError
from fusion.recording.ouster.scans import SDK_ERRORS, Frame, ScanMaker, brightness_scale, frames, read_metadata, sdk
from fusion.types import Modality, Reading

PORT = 7502


class OusterDriver:
    """A sweep for each turn, made as from a recording; a turn that was joined in the middle is left out.

    Capture time is when the turn's first packet arrived on the host, whatever clock the sensor keeps. Packets that are
    not the sensor's are counted and passed over; the first of each kind is logged.
    """

    modality = Modality.LIDAR

    def __init__(self, url: str, mount: Mount, info: Any, path: Path) -> None:
        self._url, self._mount, self._info = url, mount, info
        self._core, self._maker = sdk("core", path), ScanMaker(info, path)
        self._others: Counter[str] = Counter()
        self._datagrams = Datagrams(url, address(url, PORT), mount)

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Listen on the URL's address. Raises `ConfigError` where the metadata file does not describe a sensor."""
        named = query(url, ("metadata",)).get("metadata")
        if not named:
            raise ConfigError(f"{shown(url)}: give ?metadata=FILE, the JSON that the sensor's web page offers")
        library("ouster.sdk", url)
        path = Path(named)
        try:
            info = read_metadata(path.read_text(encoding="utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{shown(url)}: {path} cannot be read ({error})") from None
        except RecordingError as error:
            raise ConfigError(str(error)) from None
        return cls(url, mount, info, path)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`."""
        full = 0.0
        try:
            for frame in frames(self._packets(), self._others, self._maker.most_packets):
                scan = self._maker.scan(frame)
                if scan is None or frame.last or (frame.number == 1 and not scan.whole):
                    continue
                full = full or brightness_scale(scan)
                yield self._mount.reading(_arrived_ns(frame), self._maker.sweep(scan, full))
        except SDK_ERRORS as error:
            raise SensorError(f"{shown(self._url)}: broke off ({' '.join(str(error).split())})") from None

    def close(self) -> None:
        """See `Driver`."""
        self._datagrams.close()

    def _packets(self) -> Iterator[Any]:
        layout = self._core.PacketFormat.from_info(self._info)
        for data, arrived_ns in self._datagrams.arriving():
            self._datagrams.tell(self._others)
            if len(data) != layout.lidar_packet_size:
                self._others["another size's"] += 1
                continue
            packet = self._core.LidarPacket(layout)
            packet.buf[:] = bytearray(data)
            packet.host_timestamp = arrived_ns
            if packet.validate(self._info) != self._core.PacketValidationFailure.NONE:
                self._others["another sensor's"] += 1
                continue
            yield packet


def _arrived_ns(frame: Frame) -> int:
    return int(frame.packets[0].host_timestamp)
