"""One stream, from Hello to its end: sends what is unanswered, in order, and takes what comes back.

Answers go to the spool as they arrive; only its commit removes a row, so whatever happens to the stream, what
was not answered is sent again on the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from edge_node.config import UplinkSettings
from edge_node.spool import OutboxRow, Spool, SpoolWorker
from edge_node.tracing import Journeys
from edge_node.uplink.answers import verdict_json
from edge_node.uplink.peer_clock import PeerClock
from edge_node.uplink.window import Window
from fusion.clock import Clock
from fusion.errors import EvidenceError, OverloadedError, ProtocolError, UnavailableError, UnknownProfileError
from fusion.review import ANY_PROFILE
from fusion.types import DeviceStatus, ItemId, ItemState, SendReason, Verdict
from fusion.wire import PROTOCOL_VERSION
from fusion.wire.convert import parse_evidence
from fusion.wire.messages import (
    ClockPong,
    DeviceMessage,
    Draining,
    Goodbye,
    Hello,
    LedgerReport,
    PixelAnswer,
    PixelRequest,
    Refusal,
    ServiceMessage,
    Submission,
    Welcome,
)

T = TypeVar("T")
DEFAULT_RETRY_S = 1.0
UNSERVED_RETRY_S = 60.0
_log = logging.getLogger(__name__)


class Stream(Protocol):
    """`fusion.wire.client.Exchange`, or its fake."""

    async def send(self, message: DeviceMessage) -> None:
        """Hand a message to the transport."""

    async def receive(self) -> ServiceMessage | None:
        """The next message; None at the stream's end."""

    async def finish(self) -> None:
        """Nothing more will be sent."""

    def cancel(self) -> None:
        """Drop the stream."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the device is to the service."""

    device: str
    epoch: str
    task: str
    models: Mapping[str, str]
    profile: str


@dataclass(slots=True)
class UplinkCounts:
    """What happened on the uplink since the daemon started."""

    sent: int = 0
    sent_again: int = 0
    sent_bytes: int = 0
    verdicts: int = 0
    refused_for_now: int = 0
    refused: int = 0
    repeated_answers: int = 0
    pixels_asked: int = 0
    streams: int = 0
    broken: int = 0


@dataclass(slots=True)
class Ending:
    """How the daemon wants to end: `finish` with all answers in, or `leave` now."""

    finish: bool = False
    leave: bool = False


@dataclass(slots=True)
class Session:
    """Runs one `stream`. `wake` is set when there may be something to send, `status` tells how the device is."""

    stream: Stream
    identity: Identity
    settings: UplinkSettings
    spool: SpoolWorker
    clock: Clock
    counts: UplinkCounts
    wake: asyncio.Event
    ending: Ending
    peer_clock: PeerClock
    journeys: Journeys | None = None
    status: Callable[[Spool], DeviceStatus] | None = None
    draining: bool = False
    _window: Window = field(init=False)
    _asides: deque[DeviceMessage] = field(default_factory=deque)
    _served: frozenset[str] | None = None
    _heard_ns: int = 0
    said_goodbye: bool = False
    _leaving: bool = False

    def __post_init__(self) -> None:
        self._window = Window(self.settings.window)

    async def open(self) -> Welcome:
        """Hello and Welcome. Raises `UnavailableError` without an answer in time, `ProtocolError` for a wrong one."""
        waiting = await self._ask(lambda spool: spool.profiles())
        me = self.identity
        profiles = tuple(sorted({*waiting, me.profile}))
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                ping = self.peer_clock.ping()
                await self.stream.send(Hello(me.device, me.epoch, me.task, profiles, dict(me.models), ping))
                welcome = await self.stream.receive()
        except TimeoutError:
            raise UnavailableError(f"no welcome within {self.settings.connect_timeout_s:g} s") from None
        if not isinstance(welcome, Welcome):
            raise ProtocolError("the service did not answer Hello with Welcome")
        if welcome.protocol_version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the service speaks version {welcome.protocol_version} of the protocol, this device {PROTOCOL_VERSION}"
            )
        if welcome.pong:
            self.peer_clock.answered(welcome.pong)
        self._served = None if ANY_PROFILE in welcome.profiles else frozenset(welcome.profiles)
        if self._served is not None and (unserved := [name for name in profiles if name not in self._served]):
            _log.warning("the service does not serve the trunk %s; its evidence stays in the spool", unserved[0][:12])
        self._window = Window(min(self.settings.window, max(1, welcome.window)))
        self._heard_ns = self.clock.monotonic_ns()
        return welcome

    async def run(self) -> None:
        """Exchange until the goodbye is answered or the service ends the stream. Raises what broke it."""
        reader, sender, watch = (asyncio.create_task(part()) for part in (self._read_all, self._send_all, self._watch))
        try:
            done, _ = await asyncio.wait({reader, sender, watch}, return_when=asyncio.FIRST_COMPLETED)
            if done == {sender} and not sender.exception():
                done, _ = await asyncio.wait({reader, watch}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.stream.cancel()
            for task in (reader, sender, watch):
                task.cancel()
            await asyncio.gather(reader, sender, watch, return_exceptions=True)

    async def _send_all(self) -> None:
        """The stream's only writer."""
        while True:
            self.wake.clear()
            sent = await self._send_asides()
            for row in self._window.due(self.clock.monotonic_ns()):
                sent += await self._submit(row)
            sent += 0 if self.draining else await self._send_new()
            if sent:
                continue
            if self.ending.leave or (self.ending.finish and self._all_answered()):
                await self._say_goodbye()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self.wake.wait()

    def _all_answered(self) -> bool:
        return not self._window.unanswered and self._window.room(self.clock.monotonic_ns()) > 0

    async def _send_asides(self) -> int:
        count = len(self._asides)
        while self._asides:
            await self.stream.send(self._asides.popleft())
        return count

    async def _send_new(self) -> int:
        room = self._window.room(self.clock.monotonic_ns())
        if not room or self.ending.leave:
            return 0
        after, served = self._window.cursor, self._served
        if self.settings.deadline_s:
            deadline_ns = round(self.settings.deadline_s * 1e9)
            await self._ask(lambda spool: spool.expire(deadline_ns))
        rows = await self._ask(lambda spool: spool.pending(after, room, served))
        for row in rows:
            await self._submit(row)
            await self._send_asides()
        return len(rows)

    async def _submit(self, row: OutboxRow) -> int:
        now = self.clock.monotonic_ns()
        self._window.sent(row, now)
        try:
            evidence = parse_evidence(row.evidence)
        except EvidenceError as error:
            self._close(row.item, ItemState.QUARANTINED, None, str(error))
            return 1
        urgent = SendReason.ASKED_FOR in evidence.reasons
        self.counts.sent += 1
        self.counts.sent_again += row.sent_before
        self.counts.sent_bytes += len(row.evidence)
        trace = self.journeys.sent(row.item, now) if self.journeys else None
        await self.stream.send(Submission(row.item, row.evidence, self._deadline_ms(row, now), int(urgent), trace))
        return 1

    def _deadline_ms(self, row: OutboxRow, now_ns: int) -> int:
        """What is left of the item's time, at least 1: how one that was sent before ended, the service knows."""
        if not self.settings.deadline_s:
            return 0
        return max(1, round(self.settings.deadline_s * 1e3 - (now_ns - row.committed_ns) / 1e6))

    def _pause_s(self) -> float | None:
        now = self.clock.monotonic_ns()
        due = self._window.next_due_ns(now)
        return None if due is None else max(0, due - now) / 1e9

    async def _say_goodbye(self) -> None:
        await self.stream.send(await self._report())
        self._leaving = True  # from here on the service may end the stream
        await self.stream.send(Goodbye("done"))
        self.said_goodbye = True
        with contextlib.suppress(UnavailableError):
            await self.stream.finish()

    async def _watch(self) -> None:
        """Ping and report now and then; give the stream up when the service is silent or an answer is overdue."""
        pinged_ns = reported_ns = self.clock.monotonic_ns()
        settings = self.settings
        step_s = min(settings.ping_s, settings.report_s, settings.silence_s, settings.ack_timeout_s) / 4
        self._say(await self._report())
        while True:
            await asyncio.sleep(step_s)
            now = self.clock.monotonic_ns()
            if now - self._heard_ns > self.settings.silence_s * 1e9:
                raise UnavailableError(f"the service has been silent for {self.settings.silence_s:g} s")
            if self._window.oldest_wait_ns(now) > self.settings.ack_timeout_s * 1e9:
                raise UnavailableError(f"no answer to an item within {self.settings.ack_timeout_s:g} s")
            if now - pinged_ns >= self.settings.ping_s * 1e9 and not self._leaving:
                pinged_ns = now
                self._say(self.peer_clock.ping())
            if now - reported_ns >= settings.report_s * 1e9 and not self._leaving:
                reported_ns = now
                self._say(await self._report())

    async def _report(self) -> LedgerReport:
        """The books, and how the device is."""
        status = self.status
        return await self._ask(lambda spool: LedgerReport(spool.counts(), status(spool) if status else None))

    async def _read_all(self) -> None:
        while True:
            message = await self.stream.receive()
            if message is None:
                if self._leaving or self.draining:
                    return
                raise UnavailableError("the service ended the stream")
            self._heard_ns = self.clock.monotonic_ns()
            await self._take(message)

    async def _take(self, message: ServiceMessage) -> None:
        if isinstance(message, Verdict):
            self.counts.verdicts += 1
            verdict = verdict_json(message)
            self._close(message.item, ItemState.REVIEWED, verdict, "")
        elif isinstance(message, Refusal):
            self._refused(message)
        elif isinstance(message, PixelRequest):
            await self._show(message)
        elif isinstance(message, ClockPong):
            self.peer_clock.answered(message)
        elif isinstance(message, Draining):
            self.draining = True
            self.wake.set()
        else:
            raise ProtocolError("the service sent a second Welcome")

    def _close(self, item: ItemId, state: ItemState, verdict: str | None, note: str) -> None:
        """Have the spool close an item. The stream does not wait: until the commit the row can be sent again."""
        self._window.answered(item)
        future = self.spool.call(lambda spool: spool.answer(item, state, verdict, note))
        future.add_done_callback(self._count_repeated)
        self.wake.set()

    def _count_repeated(self, future: Future[bool]) -> None:
        if not future.exception() and not future.result():
            self.counts.repeated_answers += 1

    def _refused(self, refusal: Refusal) -> None:
        if refusal.state is not None:
            self.counts.refused += 1
            self._close(refusal.item, refusal.state, None, str(refusal.error))
            return
        self.counts.refused_for_now += 1
        unserved = isinstance(refusal.error, UnknownProfileError)
        pause_s = UNSERVED_RETRY_S if unserved else DEFAULT_RETRY_S
        if refusal.retry_after_s is not None:
            pause_s = refusal.retry_after_s
        until = self.clock.monotonic_ns() + round(pause_s * 1e9)
        self._window.refused(refusal.item, until, all_wait=isinstance(refusal.error, OverloadedError))
        self.wake.set()

    async def _show(self, request: PixelRequest) -> None:
        self.counts.pixels_asked += 1
        pixels = self.settings.pixels
        kept = await self._ask(lambda spool: spool.kept(request.item, pixels=pixels))
        self._say(PixelAnswer.of(request.item, kept))

    def _say(self, message: DeviceMessage) -> None:
        """Have the writer send something beside the submissions."""
        self._asides.append(message)
        self.wake.set()

    async def _ask(self, action: Callable[[Spool], T]) -> T:
        return await asyncio.wrap_future(self.spool.call(action))
