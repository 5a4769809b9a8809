"""One device's stream: handshake, submissions up, answers down, until Goodbye, a cut, a newer stream or a drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from cloud_node.config import CloudSettings
from cloud_node.fleet import Fleet, longest_lag_s
from cloud_node.job import Listener
from cloud_node.journal import Journal
from cloud_node.ledger import DeviceReport
from cloud_node.metrics import Metrics
from cloud_node.pipeline import Pipeline
from cloud_node.roster import Roster
from fusion.clock import Clock
from fusion.errors import (
    FusionError,
    InputError,
    OverloadedError,
    ProtocolError,
    SpoolError,
    UnavailableError,
    UnknownProfileError,
)
from fusion.review import ANY_PROFILE
from fusion.types import ItemId, SampleId
from fusion.wire import PROTOCOL_VERSION
from fusion.wire.messages import (
    ClockPing,
    ClockPong,
    DeviceMessage,
    Draining,
    Goodbye,
    Hello,
    LedgerReport,
    PixelAnswer,
    ServiceMessage,
    Submission,
    Welcome,
)
from fusion.wire.service import Peer

HANDSHAKE_S = 10.0
BUSY_RETRY_S = 5.0

Send = Callable[[ServiceMessage], Awaitable[None]]


class Sessions:
    """All streams, at most one a device; makes sessions and tells them to end."""

    def __init__(
        self,
        roster: Roster,
        pipeline: Pipeline,
        journal: Journal,
        settings: CloudSettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.roster = roster
        self.pipeline = pipeline
        self.journal = journal
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.fleet = Fleet()
        self.leaving = False
        self._by_device: dict[str, Session] = {}

    async def serve(self, messages: AsyncIterator[DeviceMessage], send: Send, peer: Peer) -> None:
        """One stream from Hello to its end. Raises what the device must be told as a status."""
        try:
            hello = await self._handshake(messages, peer)
        except FusionError:
            self.metrics.stream_ends.labels("refused").inc()
            raise
        session = Session(self, hello)
        if (older := self._by_device.get(hello.device)) is not None:
            older.end(ProtocolError(f"a newer stream of device {hello.device} took over"), "fenced")
        self._by_device[hello.device] = session
        self.fleet.connected(hello, self.clock.wall_ns())
        self.metrics.streams.set(len(self._by_device))
        try:
            await session.run(messages, send)
        finally:
            if self._by_device.get(hello.device) is session:
                del self._by_device[hello.device]
                self.fleet.left(hello.device, session.ended, self.clock.wall_ns())
            self.metrics.streams.set(len(self._by_device))
            self.metrics.stream_ends.labels(session.ended).inc()

    def show_devices(self) -> None:
        """Bring the gauges about devices up to date."""
        rows = self.fleet.here()
        self.metrics.devices_telling.set(sum(row.status is not None for row in rows))
        self.metrics.device_lag.set(longest_lag_s(rows))

    def announce_drain(self) -> None:
        """Tell every device that the service goes away; one that waits for its Welcome is told right after it."""
        self.leaving = True
        for session in self._by_device.values():
            if session.welcomed:
                session.push(Draining())

    def end_all(self) -> None:
        """End every stream in order, after what is already on its way."""
        for session in list(self._by_device.values()):
            session.end(None, "drained")

    async def _handshake(self, messages: AsyncIterator[DeviceMessage], peer: Peer) -> Hello:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                hello = await anext(messages, None)
        except TimeoutError:
            raise ProtocolError(f"no Hello within {HANDSHAKE_S:g} s") from None
        if not isinstance(hello, Hello):
            raise ProtocolError("a stream must begin with Hello")
        self._check_hello(hello, peer)
        if self.pipeline.draining:
            raise UnavailableError("the service is draining; connect again")
        if hello.device not in self._by_device and len(self._by_device) >= self.settings.max_streams:
            raise OverloadedError(
                f"{self.settings.max_streams} devices are connected, no more are taken", retry_after_s=BUSY_RETRY_S
            )
        return hello

    def _check_hello(self, hello: Hello, peer: Peer) -> None:
        if hello.protocol_version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"device speaks protocol version {hello.protocol_version}, this service {PROTOCOL_VERSION}"
            )
        try:
            SampleId(hello.device, hello.epoch, 1)
        except InputError as error:
            raise ProtocolError(f"Hello: {error}") from None
        check_identity(peer, hello.device)
        served = self.roster.profiles_of(hello.task)
        if hello.profiles and ANY_PROFILE not in served and not set(hello.profiles) & set(served):
            raise UnknownProfileError(
                f"device {hello.device}: profiles {', '.join(hello.profiles)} are not served; "
                f"served for task {hello.task}: {', '.join(served)}"
            )


class Session:
    """A stream after its Hello."""

    def __init__(self, sessions: Sessions, hello: Hello) -> None:
        self.ended = "cut"
        self.welcomed = False
        self._sessions = sessions
        self._hello = hello
        self._hello_ns = sessions.clock.wall_ns()
        self._outgoing: asyncio.Queue[ServiceMessage | None] = asyncio.Queue()
        self._most_outgoing = 4 * sessions.settings.queue.window
        self._room = asyncio.Event()
        self._room.set()
        self._error: FusionError | None = None
        self._over = False
        self._writer: asyncio.Task[None] | None = None
        self._listener = Listener(self.push, self.push)

    def push(self, message: ServiceMessage) -> None:
        """Put a message on its way; dropped when the stream is over (the device will ask again)."""
        if self._over:
            return
        self._outgoing.put_nowait(message)
        if self._outgoing.qsize() >= self._most_outgoing:
            self._room.clear()

    def end(self, error: FusionError | None, how: str) -> None:
        """End the stream: with `error` at once, without one after everything on its way was sent."""
        if self._over:
            return
        self._over, self._error, self.ended = True, error, how
        self._outgoing.put_nowait(None)
        if error is not None and self._writer is not None:
            self._writer.cancel()

    async def run(self, messages: AsyncIterator[DeviceMessage], send: Send) -> None:
        """Welcome, then read and write until either side ends; the reader always runs. Raises what ended it early."""
        welcome = await self._welcome()
        if self._over:
            raise self._error or UnavailableError("the service is draining; connect again")
        self.push(welcome)
        self.welcomed = True
        if self._sessions.leaving:
            self.push(Draining())
        reader = asyncio.create_task(self._read(messages))
        reader.add_done_callback(lambda _: self.end(None, "broken"))
        self._writer = asyncio.create_task(self._write(send))
        try:
            await asyncio.wait([self._writer])
        finally:
            self._over = True
            self._sessions.pipeline.detach(self._listener)
            defect = reader.exception() if reader.done() and not reader.cancelled() else None
            reader.cancel()
            self._writer.cancel()
        if (error := self._error or defect) is not None:
            raise error
        self._writer.result()

    async def _write(self, send: Send) -> None:
        while (message := await self._outgoing.get()) is not None:
            await send(message)
            if self._outgoing.qsize() < self._most_outgoing // 2:
                self._room.set()

    async def _read(self, messages: AsyncIterator[DeviceMessage]) -> None:
        """Read until the stream ends. While too much waits to be written, nothing more is read."""
        try:
            async for message in messages:
                if isinstance(message, Goodbye):
                    self.end(None, "goodbye")
                    return
                self._take(message)
                await self._room.wait()
        except FusionError as error:
            self.end(error, "broken")
        else:
            self.end(None, "cut")

    def _take(self, message: DeviceMessage) -> None:
        self._sessions.fleet.seen(self._hello.device, self._sessions.clock.wall_ns())
        match message:
            case Submission(item=item):
                self._check_owner(item)
                self._sessions.pipeline.submit(message, self._listener)
            case PixelAnswer(item=item):
                self._check_owner(item)
                self._sessions.pipeline.pixels(message)
            case ClockPing():
                now_ns = self._sessions.clock.wall_ns()
                self.push(ClockPong(message.sent_ns, now_ns, now_ns))
            case LedgerReport(counts):
                now_ns = self._sessions.clock.wall_ns()
                report = DeviceReport(self._hello.device, self._hello.epoch, now_ns, counts)
                self._sessions.fleet.reported(report.device, message, now_ns)
                self._sessions.journal.store_report(report)
            case _:
                raise ProtocolError(f"a second {type(message).__name__} on one stream")

    def _check_owner(self, item: ItemId) -> None:
        sample = item.sample
        if (sample.device, sample.epoch) != (self._hello.device, self._hello.epoch):
            raise ProtocolError(f"{item} is not of device {self._hello.device} and epoch {self._hello.epoch}")

    async def _welcome(self) -> Welcome:
        hello, sessions = self._hello, self._sessions
        try:
            last = await sessions.journal.last_acknowledged(hello.device, hello.epoch)
        except SpoolError as error:
            raise UnavailableError(str(error)) from None
        pong = ClockPong(hello.ping.sent_ns, self._hello_ns, sessions.clock.wall_ns()) if hello.ping else None
        return Welcome(sessions.roster.profiles_of(hello.task), sessions.settings.queue.window, last, pong)


def check_identity(peer: Peer, device: str) -> None:
    """With mutual TLS a device is who its certificate says; raises `ProtocolError` for another name."""
    if peer.identities is not None and device not in peer.identities:
        names = ", ".join(sorted(peer.identities)) or "nobody"
        raise ProtocolError(f"device {device} shows a certificate of {names}")
