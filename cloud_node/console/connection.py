"""uvicorn's connections, held to a time for each request and a number for each address."""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 5.0
"""How long a whole request may take to come, from the connection or from its first byte."""

OF_ONE_ADDRESS = 64
"""Connections of one address at once; more are closed."""


class BoundedProtocol(H11Protocol):
    """Closes a connection whose request does not come: uvicorn waits for ever, and counts it among those that serve."""

    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(cast("asyncio.Transport", transport))
        if self.is_one_too_many():
            transport.close()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        super().connection_lost(exc)
        self._stop()

    def handle_events(self) -> None:
        """Take what came; a request that is whole is waited for no longer."""
        super().handle_events()
        self._watch()

    def is_one_too_many(self) -> bool:
        """Whether this connection's address has more than its share."""
        address = self.client and self.client[0]
        others = (cast("H11Protocol", one).client for one in self.connections)
        return address is not None and sum(one is not None and one[0] == address for one in others) > OF_ONE_ADDRESS

    def _watch(self) -> None:
        between = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is not None
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY) or between or self.transport.is_closing():
            self._stop()
        elif self.late is None:
            self.late = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None


class ProxiedProtocol(BoundedProtocol):
    """The same behind a proxy, whose address is everybody's."""

    def is_one_too_many(self) -> bool:
        """Never: the proxy bounds them."""
        return False
