"""The service side of `transport.py`: what becomes of a message, from nothing at all to everything but the model.

python -m rivals.pipes WAY REPLY_BYTES
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio

from cloud_node.config import CloudSettings, QueueSettings, ReviewSettings
from cloud_node.server import CloudService
from fusion.errors import ProtocolError
from fusion.review.fixed import FixedReviewer
from fusion.task import Task
from fusion.types import SlotAnswer, Verdict
from fusion.wire.channel import bind, server_options
from fusion.wire.messages import DeviceMessage, Hello, ServiceMessage, Submission, Welcome
from fusion.wire.service import SERVICE_NAME, Peer, add_review_service
from rivals.memory import MemoryLedger

WAYS = ("echo", "wire", "service", "ledger")


async def echo(reply_bytes: int) -> None:
    """Bare grpc.aio: a message in, one of a verdict's size out; nothing is read."""
    reply = bytes(reply_bytes)

    async def exchange(requests: AsyncIterator[bytes], context: Any) -> None:
        async for _ in requests:
            await context.write(reply)

    server = grpc.aio.server(options=server_options())
    methods: dict[str, Any] = {"Exchange": grpc.stream_stream_rpc_method_handler(exchange)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, methods),))
    await _serve(server)


class Wire:
    """Our transport alone: the envelope is read, the evidence checked and converted, a verdict converted and sent."""

    def __init__(self) -> None:
        self._task = Task.load("yard")
        self._answers = {slot.name: answer_of(slot.options) for slot in self._task.slots}

    async def exchange(
        self, messages: AsyncIterator[DeviceMessage], send: Callable[[ServiceMessage], Awaitable[None]], peer: Peer
    ) -> None:
        """See `ReviewHandler`."""
        del peer
        async for message in messages:
            match message:
                case Hello():
                    await send(Welcome(("*",), 1024))
                case Submission():
                    item = message.evidence().item
                    prompt = self._task.prompt_sha256
                    await send(Verdict(item, self._answers, False, ("maps", "tokens"), "fixed:yard", prompt))

    async def review_item(self, submission: Submission, peer: Peer) -> Verdict:
        """Not offered."""
        del submission, peer
        raise ProtocolError("streams only")


def answer_of(options: tuple[str, ...]) -> SlotAnswer:
    """All options alike."""
    return SlotAnswer(options[0], dict.fromkeys(options, 1 / len(options)))


async def wire() -> None:
    """Until ended."""
    server = grpc.aio.server(options=server_options())
    add_review_service(server, Wire())
    await _serve(server)


async def service(*, stored: bool) -> None:
    """The whole service with a reviewer that costs nothing; its ledger in memory, or `stored` in SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        settings = CloudSettings(
            listen="127.0.0.1:0",
            reviewers=("fixed:yard",),
            ledger=f"{folder}/ledger.db",
            queue=QueueSettings(window=4096, items=4096),
            review=ReviewSettings(pixel_timeout_ms=0),
        )
        ledger = None if stored else MemoryLedger()
        made = CloudService(settings, reviewers=[FixedReviewer.load("yard")], ledger=ledger)
        async with made.running():
            print(f"ready on 127.0.0.1:{made.port}", flush=True)
            await made.failure()


async def _serve(server: grpc.aio.Server) -> None:
    port = bind(server, "127.0.0.1:0")
    await server.start()
    print(f"ready on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def main() -> None:
    """One way, until ended."""
    way, reply_bytes = sys.argv[1], int(sys.argv[2])
    made = {"echo": lambda: echo(reply_bytes), "wire": wire}
    asyncio.run(made[way]() if way in made else service(stored=way == "ledger"))


if __name__ == "__main__":
    main()
