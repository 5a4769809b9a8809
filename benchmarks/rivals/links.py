"""How a device reaches a server: our stream, or a request an item over HTTP. Times are of `time.perf_counter`."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from typing import Any, Protocol

import grpc.aio

from fusion.errors import FusionError
from fusion.types import ItemId, ItemState, Verdict
from fusion.wire.channel import client_options
from fusion.wire.client import Exchange, ReviewClient
from fusion.wire.messages import Goodbye, Hello, Refusal, Submission
from rivals.books import End

CLOSE_S, CONNECT_S = 5.0, 60.0
Ended = tuple[End, float]
"""How, and when it was told."""


class Link(Protocol):
    """What a run sends through."""

    async def open(self) -> None:
        """Connect every device."""

    async def ask(self, item: ItemId, device: int, blob: bytes, until_s: float | None) -> Ended:
        """Send an item that is useless after `until_s`, and wait for its end."""

    async def close(self) -> None:
        """Disconnect."""


class StreamLink:
    """A stream a device, each on a connection of its own, as devices have."""

    def __init__(self, address: str, devices: list[str], epoch: str, margin_s: float = 0.0) -> None:
        self._address, self._devices, self._epoch, self._margin_s = address, devices, epoch, margin_s
        self._open: dict[ItemId, asyncio.Future[Ended]] = {}
        self._streams: list[Exchange] = []
        self._channels: list[grpc.aio.Channel] = []
        self._readers: list[asyncio.Task[None]] = []
        self._turn: list[asyncio.Lock] = []

    async def open(self) -> None:
        """See `Link`."""
        self._streams = list(await asyncio.gather(*map(self._connect, self._devices)))
        self._turn = [asyncio.Lock() for _ in self._streams]
        self._readers = [asyncio.create_task(self._read(stream)) for stream in self._streams]

    async def ask(self, item: ItemId, device: int, blob: bytes, until_s: float | None) -> Ended:
        """See `Link`. A stream carries items in the order in which they were due."""
        future = self._open[item] = asyncio.get_running_loop().create_future()
        async with self._turn[device]:
            left_ms = 0
            if until_s is not None:
                left_ms = max(1, round((until_s - self._margin_s - time.perf_counter()) * 1e3))
            await self._streams[device].send(Submission(item, blob, left_ms))
        return await future

    async def close(self) -> None:
        """See `Link`."""
        await asyncio.gather(*(stream.send(Goodbye()) for stream in self._streams))
        await asyncio.wait(self._readers, timeout=CLOSE_S)
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _connect(self, device: str) -> Exchange:
        options = [*client_options(), ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(self._address, options=options)
        self._channels.append(channel)
        await asyncio.wait_for(channel.channel_ready(), CONNECT_S)  # hundreds at once may take more than one attempt
        stream = ReviewClient(channel).exchange()
        await stream.send(Hello(device, self._epoch, "yard"))
        await stream.receive()
        return stream

    async def _read(self, stream: Exchange) -> None:
        while (message := await stream.receive()) is not None:
            if isinstance(message, Verdict | Refusal):
                waiting = self._open.pop(message.item)
                if not waiting.done():  # nobody waits for it any more
                    waiting.set_result((_end_of(message), time.perf_counter()))


def _end_of(message: Verdict | Refusal) -> End:
    if isinstance(message, Verdict):
        return End.ANSWERED
    if message.retriable:
        return End.REFUSED
    return End.EXPIRED if message.state is ItemState.EXPIRED else End.FAILED


class HttpLink:
    """A request an item on kept connections; given up at the item's deadline, as a caller would."""

    def __init__(self, url: str, *, as_json: bool) -> None:
        self._url, self._as_json = url, as_json
        self._session: Any = None

    async def open(self) -> None:
        """See `Link`."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

    async def ask(self, item: ItemId, device: int, blob: bytes, until_s: float | None) -> Ended:
        """See `Link`."""
        del device
        left_s = None if until_s is None else until_s - time.perf_counter()
        body = {"json": {"evidence": base64.b64encode(blob).decode()}} if self._as_json else {"data": blob}
        try:
            async with asyncio.timeout(left_s), self._session.post(self._url, **body) as response:
                read = await response.read()
        except TimeoutError:
            return End.SILENT, time.perf_counter()
        if response.status == 200:
            json.loads(read)
        elif _end_of_status(response.status) is End.FAILED:
            print(f"{item}: status {response.status}: {read[:200]!r}", file=sys.stderr)
        return _end_of_status(response.status), time.perf_counter()

    async def close(self) -> None:
        """See `Link`."""
        await self._session.close()


def _end_of_status(status: int) -> End:
    known = {200: End.ANSWERED, 429: End.REFUSED, 503: End.REFUSED, 408: End.EXPIRED, 504: End.EXPIRED}
    return known.get(status, End.FAILED)


async def ended(link: Link, item: ItemId, device: int, blob: bytes, until_s: float | None) -> Ended:
    """As `Link.ask`; a broken connection is an end too."""
    try:
        return await link.ask(item, device, blob, until_s)
    except (FusionError, OSError) as error:
        print(f"{item}: {error}", file=sys.stderr)
        return End.FAILED, time.perf_counter()
