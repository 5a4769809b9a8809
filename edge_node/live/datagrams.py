"""A UDP port that a sensor sends to."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

from edge_node.live.drivers import WAIT_S, Mount, shown
from fusion.errors import SensorError

_BUFFER_BYTES = 4 << 20
_MAX_BYTES = 65_536
_QUIET_NS = 1_000_000_000
"""After which a sensor's place may be another's."""
_log = logging.getLogger(__name__)


class Datagrams:
    """Datagrams with the times they arrived, until `close`.

    While the sender that `keep` made the sensor is heard, those of other addresses are counted and passed over.
    """

    def __init__(self, url: str, address: tuple[str, int], mount: Mount) -> None:
        self._url, self._mount, self._closed = url, mount, threading.Event()
        self._told: Counter[str] = Counter()
        self._logged: set[str] = set()
        self._from = self._kept = ""
        self._kept_ns = 0
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            with contextlib.suppress(OSError):  # fewer bytes than asked for lose a burst, not the sensor
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            reason = (error.strerror or str(error)).lower()
            raise SensorError(f"{shown(url)}: cannot listen: {reason}") from None
        self._socket.settimeout(WAIT_S)

    def arriving(self) -> Iterator[tuple[bytes, int]]:
        """Each datagram and when it arrived, in nanoseconds of the mount's clock."""
        with self._socket:
            while not self._closed.is_set():
                try:
                    data, sender = self._socket.recvfrom(_MAX_BYTES)
                except TimeoutError:
                    continue
                except OSError as error:
                    raise SensorError(f"{shown(self._url)}: broke off ({error.strerror})") from None
                self._from = str(sender[0])
                if self._of_another():
                    self._pass_over("another sender's", 1)
                    continue
                yield data, self._mount.now_ns()

    def keep(self) -> None:
        """The datagram that came last is the sensor's."""
        self._kept, self._kept_ns = self._from, time.monotonic_ns()

    def tell(self, refused: Counter[str]) -> None:
        """Count in the sensor's books what `refused` counts since the last call; the first of each reason is logged."""
        if refused == self._told:
            return
        for reason, count in (refused - self._told).items():
            self._pass_over(reason, count)
        self._told = Counter(refused)

    def close(self) -> None:
        """End `arriving` soon; from any thread."""
        self._closed.set()

    def _of_another(self) -> bool:
        return self._from != self._kept and bool(self._kept) and time.monotonic_ns() - self._kept_ns <= _QUIET_NS

    def _pass_over(self, reason: str, count: int) -> None:
        self._mount.dropped(f"packet: {reason}", count)
        if reason not in self._logged:
            _log.warning("sensor %s: %s: packets passed over: %s", self._mount.name, shown(self._url), reason)
        self._logged.add(reason)
