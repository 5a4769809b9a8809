"""Told to whoever supervises the daemon, by systemd's notification protocol: ready, alive, stopping.

See sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names. Without a supervisor nothing is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


@dataclass(frozen=True, slots=True)
class Supervisor:
    """`address` is the notification socket, empty for none; in `watchdog_s` a sign of life is due, 0 for never."""

    address: str = ""
    watchdog_s: float = 0.0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Supervisor:
        """The one that started this process."""
        address = environment.get("NOTIFY_SOCKET", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        due_us = environment.get("WATCHDOG_USEC", "") if mine else ""
        return cls(address, int(due_us) / 1e6 if due_us.isdecimal() else 0.0)

    def tell(self, state: str) -> None:
        """Send `state`. A supervisor that is gone is no reason to fail."""
        if not self.address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(self.address.replace("@", "\0", 1) if self.address.startswith("@") else self.address)
            out.send(state.encode())

    async def stay_alive(self, healthy: Callable[[], bool]) -> None:
        """Give a sign of life twice in the time one is due, as long as `healthy`; for ever."""
        while self.address and self.watchdog_s:
            if healthy():
                self.tell(ALIVE)
            await asyncio.sleep(self.watchdog_s / 2)
