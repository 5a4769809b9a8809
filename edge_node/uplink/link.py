"""The uplink: streams to the service, one after another, for as long as the daemon lives.

A service that is not there never stops screening; each change of state is one line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from edge_node.config import UplinkSettings
from edge_node.spool import Spool, SpoolWorker
from edge_node.tracing import Journeys
from edge_node.uplink.diagnosis import Diagnosis, LinkState, diagnose
from edge_node.uplink.peer_clock import PeerClock
from edge_node.uplink.session import Ending, Identity, Session, Stream, UplinkCounts
from fusion.clock import Clock, OffsetEstimate
from fusion.errors import FusionError, OverloadedError, SpoolError, UnavailableError
from fusion.types import DeviceStatus
from fusion.wire.channel import ClientTls, open_channel
from fusion.wire.client import ReviewClient

_log = logging.getLogger(__name__)
Connect = Callable[[], AbstractAsyncContextManager[Stream]]
Diagnose = Callable[[str, ClientTls | None, str], Awaitable[Diagnosis]]


class Uplink:
    """Keeps a stream to the service. Create it, and call `run`, `finish` and `wake`, in one event loop.

    `connect` makes a stream; left out, it is a gRPC channel to the configured address, and `explain` asks its socket
    why there is none. `jitter` spreads the pauses of many devices, `journeys` is told what is sent, `status` tells the
    service how the device is.
    """

    def __init__(
        self,
        settings: UplinkSettings,
        identity: Identity,
        spool: SpoolWorker,
        clock: Clock,
        *,
        connect: Connect | None = None,
        jitter: random.Random | None = None,
        journeys: Journeys | None = None,
        status: Callable[[Spool], DeviceStatus] | None = None,
        explain: Diagnose = diagnose,
    ) -> None:
        self.state = LinkState.STARTING
        self.reason = ""
        self.counts = UplinkCounts()
        self._settings, self._identity, self._spool, self._clock = settings, identity, spool, clock
        self._connect = connect or self._channel
        self._jitter = jitter or random.Random()
        self._journeys = journeys
        self._status = status
        self._diagnose = explain
        self._peer_clock = PeerClock(clock)
        self._wake = asyncio.Event()
        self._ending = Ending()
        self._failures = 0

    @property
    def offset(self) -> OffsetEstimate | None:
        """The service's clock minus ours; None before it was asked."""
        return self._peer_clock.best

    async def run(self) -> None:
        """Hold streams until `finish` or `leave` is through. Raises `SpoolError` only: the rest is waited out."""
        while True:
            try:
                if await self._one_stream():
                    self._change(Diagnosis(LinkState.ENDED, "everything is answered"))
                    return
                self._change(Diagnosis(LinkState.OFFLINE, "the service ended the stream"))
            except SpoolError:
                raise
            except FusionError as error:
                self.counts.broken += 1
                self._change(await self._explain(error))
            if self._ending.leave:
                return
            await self._pause()

    def wake(self) -> None:
        """The outbox may have something new."""
        self._wake.set()

    def finish(self) -> None:
        """End once everything in the outbox is answered."""
        self._ending.finish = True
        self._wake.set()

    def leave(self) -> None:
        """End now; what is unanswered stays in the spool."""
        self._ending.leave = True
        self._wake.set()

    async def _one_stream(self) -> bool:
        """One stream from Hello to its end; whether it ended as wished."""
        async with self._connect() as stream:
            session = Session(
                stream, self._identity, self._settings, self._spool, self._clock, self.counts, self._wake,
                self._ending, self._peer_clock, self._journeys, self._status,
            )  # fmt: skip
            await session.open()
            self.counts.streams += 1
            self._failures = 0
            self._change(Diagnosis(LinkState.CONNECTED, _told(self.offset)))
            try:
                await session.run()
            except UnavailableError:
                if not session.said_goodbye:
                    raise
            if session.draining:
                self._change(Diagnosis(LinkState.DRAINING, "the service goes away"))
            return not session.draining

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Stream]:
        channel = open_channel(self._settings.address, self._settings.tls)
        try:
            yield ReviewClient(channel).exchange()
        finally:
            await channel.close()

    async def _explain(self, error: FusionError) -> Diagnosis:
        if isinstance(error, OverloadedError):
            return Diagnosis(LinkState.OFFLINE, str(error))
        if isinstance(error, UnavailableError):
            return await self._diagnose(self._settings.address, self._settings.tls, str(error))
        return Diagnosis(LinkState.REFUSED, str(error))

    async def _pause(self) -> None:
        """Exponential back-off with jitter; a device that is refused knocks seldom."""
        self._failures += 1
        longest = self._settings.backoff_max_s
        pause = min(longest, self._settings.backoff_first_s * 2 ** min(self._failures - 1, 20))
        if self.state in {LinkState.REFUSED, LinkState.IDENTITY}:
            pause = longest
        ends = self._clock.monotonic_ns() + pause * self._jitter.uniform(0.5, 1.0) * 1e9
        while not self._ending.leave and (left := (ends - self._clock.monotonic_ns()) / 1e9) > 0:
            await asyncio.sleep(min(left, 0.1))

    def _change(self, to: Diagnosis) -> None:
        if to.state is self.state and to.reason == self.reason:
            return
        same_kind = to.state is self.state
        self.state, self.reason = to.state, to.reason
        if same_kind:
            return
        address = self._settings.address
        if to.state is LinkState.CONNECTED:
            _log.info("uplink: connected to %s%s", address, f" ({to.reason})" if to.reason else "")
        elif to.state is LinkState.ENDED:
            _log.info("uplink: %s", to.reason)
        elif to.state is LinkState.OFFLINE:
            _log.warning("uplink: no service at %s: %s; screening goes on", address, to.reason)
        elif to.state is LinkState.DRAINING:
            _log.info("uplink: %s is going away; screening goes on", address)
        elif to.state is LinkState.IDENTITY:
            _log.error("uplink: %s and this device do not accept each other: %s", address, to.reason)
        else:
            _log.error("uplink: %s refuses this device: %s", address, to.reason)


def _told(offset: OffsetEstimate | None) -> str:
    if offset is None:
        return ""
    return f"its clock is {offset.offset_ns / 1e6:+.2f} ms off, ± {offset.error_ns / 1e6:.2f} ms"
