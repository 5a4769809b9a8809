"""(d) The batcher everyone writes first: collect until the batch is full or the time is up, review, answer.

    python -m rivals.collecting SETTING

It speaks our own stream over grpc.aio and runs our scorer (one padded forward over the cached prompt), so what it lacks
is what is measured: deadlines, turns of devices, a queue with an end (unless `most_waiting` gives it one), a ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc.aio

from fusion.errors import OverloadedError, ProtocolError
from fusion.review import Reviewer
from fusion.types import Verdict
from fusion.wire.channel import bind, server_options
from fusion.wire.messages import DeviceMessage, Goodbye, Hello, Refusal, ServiceMessage, Submission, Welcome
from fusion.wire.service import Peer, add_review_service
from rivals.scorer import Scorer
from rivals.setting import Setting

Send = Callable[[ServiceMessage], Awaitable[None]]


def _one_at_a_time(send: Send) -> Send:
    """A stream takes one message after the other, whoever has one."""
    writing = asyncio.Lock()

    async def write(message: ServiceMessage) -> None:
        async with writing:
            await send(message)

    return write


class Collecting:
    """A handler of our stream with one queue for all."""

    def __init__(self, setting: Setting, reviewer: Reviewer) -> None:
        self._setting, self._reviewer = setting, reviewer
        self._waiting: asyncio.Queue[tuple[Submission, Send]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def exchange(self, messages: AsyncIterator[DeviceMessage], send: Send, peer: Peer) -> None:
        """See `ReviewHandler`."""
        del peer
        send = _one_at_a_time(send)
        async for message in messages:
            match message:
                case Hello():
                    await send(Welcome(("*",), 1 << 30))
                case Submission():
                    most = self._setting.most_waiting
                    if most and self._waiting.qsize() >= most:
                        await send(Refusal(message.item, OverloadedError("full", retry_after_s=1.0), 1.0))
                    else:
                        self._waiting.put_nowait((message, send))
                case Goodbye():
                    return

    async def review_item(self, submission: Submission, peer: Peer) -> Verdict:
        """Not offered."""
        del submission, peer
        raise ProtocolError("streams only")

    async def run(self) -> None:
        """Batch after batch."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            until = loop.time() + self._setting.wait_ms / 1e3
            while len(batch) < self._setting.batch:
                try:
                    async with asyncio.timeout_at(until):
                        batch.append(await self._waiting.get())
                except TimeoutError:
                    break
            verdicts = await loop.run_in_executor(self._thread, self._review, [one for one, _ in batch])
            for verdict, (_, send) in zip(verdicts, batch, strict=True):
                with suppress(Exception):  # a device that has left must not end the server
                    await send(verdict)

    def _review(self, batch: list[Submission]) -> list[Verdict]:
        evidence = [one.evidence() for one in batch]
        answers = self._reviewer.score([self._reviewer.prepare(one) for one in evidence])
        name, prompt = self._reviewer.name, self._reviewer.task.prompt_sha256
        return [
            Verdict(one.item, dict(told), False, ("maps",), name, prompt)
            for one, told in zip(evidence, answers, strict=True)
        ]


async def serve(setting: Setting) -> None:
    """Until ended."""
    collecting = Collecting(setting, Scorer(setting.reviewer, setting.threads).reviewer)
    server = grpc.aio.server(options=server_options())
    add_review_service(server, collecting)
    port = bind(server, "127.0.0.1:0")
    await server.start()
    print(f"ready on 127.0.0.1:{port}", flush=True)
    await collecting.run()


if __name__ == "__main__":
    asyncio.run(serve(Setting.of_command()))
