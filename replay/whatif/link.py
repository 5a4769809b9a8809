"""The network between the nodes in virtual time: what the messages of a stream weigh, and when they arrive.

A message arrives as a whole, when its last byte has been carried and the latency is over. An outage stops the link and
loses nothing, as TCP does; one in which a ping of the transport stays without an answer ends the stream, and what else
ends it is up to the device's own code. A stream that is dropped takes what was not carried with it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from fusion.clock import ManualClock
from fusion.errors import FusionError, UnavailableError
from fusion.wire import envelope
from fusion.wire.channel import KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS
from fusion.wire.messages import DeviceMessage, ServiceMessage
from fusion.wire.service import Peer
from replay.whatif.outages import Outages

FRAMING = 14
"""Bytes beside a message: gRPC's prefix of 5 and the HTTP/2 frame's header of 9. TLS and TCP are not counted."""
BUFFER = 65_535
"""Bytes that a stream takes before they are carried: HTTP/2's first window. Beyond it the sender waits."""
Serve = Callable[[AsyncIterator[DeviceMessage], Callable[[ServiceMessage], Awaitable[None]], Peer], Awaitable[None]]
Carried = Callable[[int, int, int], object]


class Pipe:
    """One direction of the link, one message at a time. `rate` bytes a second, None for no limit.

    `carried` is told of each stretch of work: from, to (nanoseconds), bytes.
    """

    def __init__(
        self,
        clock: ManualClock,
        outages: Outages,
        rate: float | None = None,
        latency_ms: float = 0.0,
        carried: Carried = lambda *_: None,
    ) -> None:
        self.latency_ns = round(latency_ms * 1e6)
        self.bytes = 0
        self.busy_ns = 0
        self._clock, self._outages, self._rate, self._carried = clock, outages, rate, carried
        self._turn = asyncio.Lock()

    async def carry(self, size: int) -> None:
        """Through when the last byte is; a caller that gives up leaves what was carried so far."""
        async with self._turn:
            begin_ns = self._clock.now_ns
            work_ns = math.ceil(size / self._rate * 1e9) if self._rate else 0
            try:
                await until(self._clock, self._outages.finish_ns(begin_ns, work_ns))
            except asyncio.CancelledError:
                done_ns = self._outages.worked_ns(begin_ns, self._clock.now_ns)
                self._note(begin_ns, done_ns, size * done_ns // work_ns if work_ns else 0)
                raise
            self._note(begin_ns, work_ns, size)

    def works_ns(self, now_ns: int) -> int:
        """When it works again, or now."""
        return self._outages.finish_ns(now_ns, 0)

    def _note(self, begin_ns: int, work_ns: int, size: int) -> None:
        self.bytes += size
        self.busy_ns += work_ns
        self._carried(begin_ns, self._clock.now_ns, size)


async def until(clock: ManualClock, time_ns: int) -> None:
    """Sleep until then; not at all when it is past."""
    while (left_ns := time_ns - clock.now_ns) > 0:
        await asyncio.sleep(left_ns / 1e9)


class _Way:
    """Messages of one stream in one direction, in order: each is carried, and delivered when the latency is over."""

    def __init__(self, clock: ManualClock, pipe: Pipe, deliver: Callable[[bytes | None], None]) -> None:
        self._clock, self._pipe, self._deliver = clock, pipe, deliver
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._flying: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
        self._buffered = 0
        self._room = asyncio.Event()
        self._tasks = [asyncio.create_task(part()) for part in (self._carry, self._land)]

    async def put(self, data: bytes) -> None:
        """Hand a message over; waits while the buffer is full."""
        self._buffered += len(data) + FRAMING
        self._waiting.put_nowait(data)
        while self._buffered > BUFFER:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing comes after what is on its way."""
        self._waiting.put_nowait(None)

    def close(self) -> None:
        """Drop what is on its way."""
        for task in self._tasks:
            task.cancel()
        self._buffered = 0
        self._room.set()

    async def _carry(self) -> None:
        while True:
            data = await self._waiting.get()
            if data is not None:
                await self._pipe.carry(len(data) + FRAMING)
                self._buffered -= len(data) + FRAMING
                self._room.set()
            self._flying.put_nowait((self._clock.now_ns + self._pipe.latency_ns, data))

    async def _land(self) -> None:
        while True:
            arrival_ns, data = await self._flying.get()
            await until(self._clock, arrival_ns)
            self._deliver(data)


class Wire:
    """One stream of the device (`edge_node.uplink.Stream`) over `up` and `down`; make it in the loop.

    The service begins to `serve` it when the first message arrives.
    """

    def __init__(self, clock: ManualClock, up: Pipe, down: Pipe, serve: Serve) -> None:
        self._heard: asyncio.Queue[DeviceMessage | None] = asyncio.Queue()
        self._told: asyncio.Queue[ServiceMessage | FusionError | None] = asyncio.Queue()
        self._up = _Way(clock, up, self._hear)
        self._down = _Way(clock, down, self._tell)
        self._over = False
        self._clock, self._pipes = clock, (up, down)
        self._watching = asyncio.create_task(self._stay_alive())
        self._serve = serve
        self._serving: asyncio.Task[None] | None = None

    async def send(self, message: DeviceMessage) -> None:
        """Hand a message to the link. Raises `UnavailableError` when the stream is over."""
        if not self._over:
            await self._up.put(envelope.write_device_message(message))
        if self._over:
            raise UnavailableError("the stream is over")

    async def receive(self) -> ServiceMessage | None:
        """The next message; None at the end. Raises what ended the stream."""
        found = await self._told.get()
        if isinstance(found, FusionError):
            raise found
        return found

    async def finish(self) -> None:
        """Nothing more will be sent."""
        self._up.end()

    def cancel(self) -> None:
        """Drop the stream."""
        self.end(None)

    def end(self, error: FusionError | None) -> None:
        """Cut it: the service sees an end, the device `error`."""
        if self._over:
            return
        self._over = True
        self._watching.cancel()
        self._up.close()
        self._down.close()
        self._heard.put_nowait(None)
        self._told.put_nowait(error)

    def _hear(self, data: bytes | None) -> None:
        if self._serving is None:
            self._serving = asyncio.create_task(self._answer())
        self._heard.put_nowait(None if data is None else envelope.read_device_message(data))

    def _tell(self, data: bytes | None) -> None:
        self._told.put_nowait(None if data is None else envelope.read_service_message(data))

    async def _stay_alive(self) -> None:
        """What gRPC does beside the messages: a ping now and then, and an end without an answer to it."""
        while True:
            await asyncio.sleep(KEEPALIVE_MS / 1e3)
            ends_ns = self._clock.now_ns + KEEPALIVE_TIMEOUT_MS * 1_000_000
            if max(pipe.works_ns(self._clock.now_ns) for pipe in self._pipes) > ends_ns:
                await until(self._clock, ends_ns)
                self.end(UnavailableError("the service does not answer"))
                return

    async def _answer(self) -> None:
        try:
            await self._serve(self._messages(), self._send, Peer("replay", None, None))
        except FusionError as error:
            self.end(error)
        else:
            self._down.end()

    async def _send(self, message: ServiceMessage) -> None:
        await self._down.put(envelope.write_service_message(message))

    async def _messages(self) -> AsyncIterator[DeviceMessage]:
        while (message := await self._heard.get()) is not None:
            yield message
