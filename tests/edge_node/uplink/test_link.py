"""The uplink against a real gRPC server: order, windows, lost acknowledgements, refusals, pixels, goodbyes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from edge_node.config import SpoolSettings, UplinkSettings
from edge_node.fakes import FAKE_PROFILE
from edge_node.spool import ItemRecord, OutboxBlobs, Resume, SampleRecord, Spool, SpoolWorker
from edge_node.uplink import Identity, LinkState, Uplink
from fusion.clock import SystemClock
from fusion.errors import EvidenceError, FusionError, OverloadedError, ProtocolError
from fusion.types import (
    Box2D,
    DeviceOpinion,
    Evidence,
    ItemId,
    ItemState,
    KeptLanes,
    PixelCrop,
    SampleId,
    SendReason,
    SlotAnswer,
    Verdict,
)
from fusion.wire.channel import bind, server_options
from fusion.wire.convert import serialize_evidence
from fusion.wire.messages import (
    ClockPing,
    ClockPong,
    Draining,
    Goodbye,
    Hello,
    LedgerReport,
    PixelAnswer,
    PixelRequest,
    Refusal,
    Submission,
    Welcome,
)
from fusion.wire.service import add_review_service

from ...ports import free_address

BOX = Box2D(1, 2, 30, 40)
FAST = {"connect_timeout_s": 2.0, "backoff_first_s": 0.02, "backoff_max_s": 0.05, "silence_s": 20.0, "ping_s": 5.0}


def verdict(item: ItemId) -> Verdict:
    slot = SlotAnswer("drum", {"drum": 0.9, "cone": 0.1})
    return Verdict(
        item, {"object": slot}, uncertain=False, lanes=("maps",), reviewer="fake:yard", prompt_sha256="0" * 64
    )


class FakeService:
    """Keeps a ledger; `react(submission, attempt, send)` may answer otherwise and return False."""

    def __init__(self, react=None, welcome: Welcome | None = None, window: int = 8) -> None:
        self.react = react
        self.welcome = welcome or Welcome(("*",), window)
        self.ledger: dict[str, bytes] = {}
        self.received: list[str] = []
        self.deadlines: list[int] = []
        self.pixels: dict[str, PixelAnswer] = {}
        self.reports: list = []
        self.hellos: list[Hello] = []
        self.goodbyes = 0
        self.most_open = 0

    async def exchange(self, messages, write, peer) -> None:
        lock = asyncio.Lock()

        async def send(message):
            async with lock:  # gRPC takes one write of a stream at a time
                await write(message)

        hello = await anext(messages)
        self.hellos.append(hello)
        pong = ClockPong(hello.ping.sent_ns, hello.ping.sent_ns + 50, hello.ping.sent_ns + 60)
        await send(Welcome(self.welcome.profiles, self.welcome.window, None, pong, self.welcome.protocol_version))
        async for message in messages:
            if isinstance(message, Submission):
                await self._submission(message, send)
            elif isinstance(message, PixelAnswer):
                self.pixels[str(message.item)] = message
                await send(verdict(message.item))
            elif isinstance(message, ClockPing):
                await send(ClockPong(message.sent_ns, message.sent_ns, message.sent_ns))
            elif isinstance(message, LedgerReport):
                self.reports.append(message.counts)
            elif isinstance(message, Goodbye):
                self.goodbyes += 1
                return

    async def _submission(self, message: Submission, send) -> None:
        self.received.append(str(message.item))
        self.deadlines.append(message.deadline_ms)
        attempt = self.received.count(str(message.item))
        if self.react and await self.react(message, attempt, send):
            return
        self.ledger[str(message.item)] = message.blob
        await send(verdict(message.item))

    async def review_item(self, submission, peer):
        raise NotImplementedError


@asynccontextmanager
async def serving(service, address: str | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server(options=server_options())
    port = bind(server, address or free_address())
    add_review_service(server, service)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Device:
    """A spool with its worker, and the uplink on it."""

    def __init__(self, folder: Path) -> None:
        spool = Spool.open(folder / "spool.db", "cart-1", "yard", settings=SpoolSettings(keep_free_bytes=0))
        self.uplink: Uplink | None = None
        self.epoch = spool.epoch
        self.resume = spool.resume("c", "r")
        self.sequence = spool.next_sequence
        self.worker = SpoolWorker(spool)
        self.worker.start()

    def link(self, address: str, **more) -> Uplink:
        settings = UplinkSettings(address=address, **{**FAST, **more})
        identity = Identity("cart-1", self.epoch, "yard", {"detector": "1"}, FAKE_PROFILE)
        self.uplink = Uplink(settings, identity, self.worker, SystemClock())
        return self.uplink

    def commit(self, items: int = 1, profile: str = FAKE_PROFILE, blob: bytes | None = None) -> list[str]:
        names, records = [], []
        for number in range(1, items + 1):
            item = ItemId(SampleId("cart-1", self.epoch, self.sequence), number)
            evidence = Evidence(
                item,
                "yard",
                5,
                1,
                profile,
                {},
                BOX,
                640,
                384,
                {"drum": 0.5},
                DeviceOpinion(),
                (SendReason.UNCERTAIN,),
                1.0,
                {},
            )
            blobs = OutboxBlobs(
                blob or serialize_evidence(evidence), profile, KeptLanes(PixelCrop(b"picture", "jpeg", BOX))
            )
            records.append(
                ItemRecord(
                    number,
                    1,
                    BOX,
                    "drum",
                    0.5,
                    {},
                    DeviceOpinion(),
                    ItemState.PENDING,
                    (SendReason.UNCERTAIN,),
                    1.0,
                    "",
                    None,
                    blobs,
                )
            )
            names.append(str(item))
        resume = Resume(self.resume.run, 0, self.sequence, 0)
        self.worker.store(SampleRecord(self.sequence, 5, {}, resume, tuple(records))).result()
        self.sequence += 1
        if self.uplink:
            self.uplink.wake()
        return names

    def ask(self, action):
        return self.worker.call(action).result()

    def states(self) -> Counter:
        return Counter(state for (state,) in self.ask(lambda s: s.query("SELECT state FROM items")))


@pytest.fixture
def device(tmp_path):
    device = Device(tmp_path)
    yield device
    device.worker.close()


async def finished(uplink: Uplink, seconds: float = 15.0) -> None:
    uplink.finish()
    await asyncio.wait_for(uplink.run(), seconds)


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_everything_is_sent_in_order_answered_and_reported(device):
    async def scenario():
        service = FakeService()
        async with serving(service) as address:
            names = [name for _ in range(10) for name in device.commit(3)]
            uplink = device.link(address)
            await finished(uplink)
            assert service.received == names
            assert sorted(service.ledger) == sorted(names)
            *_, report = service.reports
            assert (report.samples, report.items[ItemState.REVIEWED]) == (10, 30)
            assert service.goodbyes == 1
            assert service.hellos[0].profiles == (FAKE_PROFILE,)
            assert uplink.offset is not None
            assert uplink.offset.error_ns < 10**9
            assert uplink.state is LinkState.ENDED

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 30}
    ((stored,),) = device.ask(lambda s: s.query("SELECT DISTINCT verdict FROM items"))
    assert '"object":{"option":"drum","probabilities":{"cone":0.1,"drum":0.9}}' in stored


def test_what_is_committed_later_is_sent_at_once(device):
    async def scenario():
        service = FakeService()
        async with serving(service) as address:
            uplink = device.link(address)
            running = asyncio.create_task(uplink.run())
            await until(lambda: uplink.state is LinkState.CONNECTED)
            (name,) = await asyncio.to_thread(device.commit)
            await until(lambda: name in service.ledger, 2)
            uplink.finish()
            await asyncio.wait_for(running, 5)

    asyncio.run(scenario())


def test_lost_acknowledgements_are_asked_for_again_and_count_once(device):
    async def eaten(message, attempt, send):
        service.ledger.setdefault(str(message.item), message.blob)
        return attempt == 1  # stored, but the verdict never leaves

    service = FakeService(eaten)

    async def scenario():
        async with serving(service) as address:
            names = device.commit(4)
            uplink = device.link(address, ack_timeout_s=0.3)
            await finished(uplink)
            assert service.received == names + names
            assert sorted(service.ledger) == sorted(names)
            assert uplink.counts.sent_again == 4
            assert uplink.counts.broken == 1

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 4}


def test_a_verdict_delivered_twice_is_taken_once(device):
    async def twice(message, attempt, send):
        await send(verdict(message.item))
        return False

    async def scenario():
        async with serving(FakeService(twice)) as address:
            device.commit(3)
            uplink = device.link(address)
            await finished(uplink)
            return uplink

    uplink = asyncio.run(scenario())
    assert device.states() == {"reviewed": 3}
    assert uplink.counts.verdicts in range(4, 7)
    assert uplink.counts.repeated_answers == uplink.counts.verdicts - 3


def test_a_broken_stream_resends_everything_unanswered(device):
    async def cut(message, attempt, send):
        if attempt == 1 and message.item.item == 3:
            raise RuntimeError("a defect in the service")
        return False

    async def scenario():
        service = FakeService(cut)
        async with serving(service) as address:
            names = device.commit(5)
            await finished(device.link(address))
            assert set(service.received[-3:]) <= set(names)
            assert sorted(service.ledger) == sorted(names)
            assert len(service.hellos) == 2

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 5}


def test_an_overloaded_service_is_given_its_time(device):
    began: list[float] = []

    async def overloaded(message, attempt, send):
        began.append(asyncio.get_running_loop().time())
        if attempt == 1 and message.item.item == 1:
            await send(Refusal(message.item, OverloadedError("queue full", retry_after_s=0.4), 0.4))
            return True
        return False

    async def scenario():
        service = FakeService(overloaded, window=1)
        async with serving(service) as address:
            names = device.commit(3)
            uplink = device.link(address)
            await finished(uplink)
            assert service.received == [names[0], *names]
            assert began[1] - began[0] > 0.38
            assert uplink.counts.refused_for_now == 1
            assert len(service.hellos) == 1

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 3}


def test_final_refusals_close_items_with_the_services_word(device):
    async def refuse(message, attempt, send):
        states = {1: ItemState.QUARANTINED, 2: ItemState.EXPIRED, 3: ItemState.SHED}
        if state := states.get(message.item.item):
            await send(Refusal(message.item, EvidenceError("no good"), None, state))
            return True
        return False

    async def scenario():
        async with serving(FakeService(refuse)) as address:
            device.commit(4)
            await finished(device.link(address))

    asyncio.run(scenario())
    assert device.states() == {"quarantined": 1, "expired": 1, "shed": 1, "reviewed": 1}
    notes = device.ask(lambda s: s.query("SELECT note FROM items ORDER BY item"))
    assert notes == [("no good",)] * 3 + [("",)]


@pytest.mark.parametrize("willing", [True, False])
def test_pixels_come_from_the_spool_when_asked_for(device, willing):
    async def curious(message, attempt, send):
        await send(PixelRequest(message.item))
        return True

    async def scenario():
        service = FakeService(curious)
        async with serving(service) as address:
            (name,) = device.commit()
            await finished(device.link(address, pixels=willing))
            answer = service.pixels[name]
            assert answer.crop == (PixelCrop(b"picture", "jpeg", BOX) if willing else None)

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 1}


def test_the_smaller_window_holds(device):
    open_now: set[str] = set()
    most = 0

    async def slow(message, attempt, send):
        nonlocal most
        open_now.add(str(message.item))
        most = max(most, len(open_now))

        async def later():
            await asyncio.sleep(0.03)
            open_now.discard(str(message.item))
            await send(verdict(message.item))

        tasks.append(asyncio.create_task(later()))
        return True

    tasks: list[asyncio.Task] = []

    async def scenario():
        async with serving(FakeService(slow, window=3)) as address:
            device.commit(12)
            await finished(device.link(address, window=5))

    asyncio.run(scenario())
    assert most == 3
    assert device.states() == {"reviewed": 12}


def test_unserved_trunks_stay_in_the_spool(device, caplog):
    caplog.set_level(logging.WARNING)

    async def scenario():
        service = FakeService(welcome=Welcome((FAKE_PROFILE,), 8))
        async with serving(service) as address:
            (old,) = device.commit(profile="0" * 64)
            (new,) = device.commit()
            await finished(device.link(address))
            assert service.received == [new]
            assert "does not serve the trunk 000000000000" in caplog.text
            assert old not in service.ledger

    asyncio.run(scenario())
    assert device.states() == {"pending": 1, "reviewed": 1}


def test_evidence_that_could_not_be_received_never_blocks_the_queue(device):
    async def scenario():
        service = FakeService()
        async with serving(service) as address:
            device.commit(blob=b"not evidence")
            (good,) = device.commit()
            await finished(device.link(address))
            assert service.received == [good]

    asyncio.run(scenario())
    assert device.states() == {"quarantined": 1, "reviewed": 1}


def test_a_deadline_travels_and_what_never_left_expires_on_the_device(device):
    async def scenario():
        service = FakeService()
        device.commit()
        await asyncio.sleep(0.25)
        (late,) = device.commit()
        async with serving(service) as address:
            await finished(device.link(address, deadline_s=0.2))
            assert service.received == [late]
            assert 1 <= service.deadlines[0] <= 200

    asyncio.run(scenario())
    assert device.states() == {"expired": 1, "reviewed": 1}


def test_a_service_that_is_not_there_is_one_line_and_is_found_when_it_comes(device, caplog):
    caplog.set_level(logging.INFO)

    async def scenario():
        async with serving(FakeService()) as address:
            pass
        uplink = device.link(address)
        running = asyncio.create_task(uplink.run())
        await until(lambda: uplink.counts.broken >= 3)
        assert uplink.state is LinkState.OFFLINE
        device.commit(2)
        service = FakeService()
        async with serving(service, address):
            uplink.finish()
            await asyncio.wait_for(running, 15)
            assert len(service.ledger) == 2

    asyncio.run(scenario())
    lines = [record.message for record in caplog.records if "no service" in record.message]
    assert len(lines) == 1
    assert "connection refused" in lines[0]
    assert "screening goes on" in lines[0]
    assert device.states() == {"reviewed": 2}


def test_a_silent_service_is_left(device):
    class Silent(FakeService):
        async def exchange(self, messages, send, peer):
            self.hellos.append(await anext(messages))
            if len(self.hellos) == 1:
                await send(self.welcome)
                await asyncio.sleep(30)
            await super().exchange(_after(self.hellos[-1], messages), send, peer)

    async def scenario():
        service = Silent()
        async with serving(service) as address:
            device.commit()
            await finished(device.link(address, silence_s=0.4, ping_s=0.1))
            assert len(service.hellos) == 3  # the silent one, and the good one counted twice

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 1}


async def _after(first, messages):
    yield first
    async for message in messages:
        yield message


@pytest.mark.parametrize(
    ("welcome", "named"),
    [(Welcome(("*",), 8, protocol_version=9), "version 9"), (ProtocolError("task 'yard' is not served"), "not served")],
)
def test_a_service_that_refuses_is_named_and_not_stormed(device, caplog, welcome, named):
    class Refusing(FakeService):
        async def exchange(self, messages, send, peer):
            self.hellos.append(await anext(messages))
            if isinstance(welcome, FusionError):
                raise welcome
            await send(welcome)
            await asyncio.sleep(30)

    async def scenario():
        service = Refusing()
        async with serving(service) as address:
            device.commit()
            uplink = device.link(address, backoff_max_s=30.0)
            running = asyncio.create_task(uplink.run())
            await until(lambda: uplink.state is LinkState.REFUSED)
            assert named in uplink.reason
            await asyncio.sleep(0.5)
            assert len(service.hellos) == 1
            uplink.leave()
            await asyncio.wait_for(running, 2)

    asyncio.run(scenario())
    assert device.states() == {"pending": 1}


def test_a_draining_service_gets_nothing_new(device):
    class Leaving(FakeService):
        async def exchange(self, messages, send, peer):
            self.hellos.append(await anext(messages))
            if len(self.hellos) > 1:
                await super().exchange(_after(self.hellos.pop(), messages), send, peer)
                return
            await send(self.welcome)
            first = await anext(messages)
            await send(Draining())
            await asyncio.to_thread(device.commit)
            await asyncio.sleep(0.2)
            await send(verdict(first.item))

    async def scenario():
        service = Leaving()
        async with serving(service) as address:
            device.commit()
            await finished(device.link(address))
            assert len(service.received) == 1
            assert len(service.hellos) == 2

    asyncio.run(scenario())
    assert device.states() == {"reviewed": 2}


def test_leaving_says_goodbye_and_keeps_what_is_unanswered(device):
    async def never(message, attempt, send):
        return True

    async def scenario():
        service = FakeService(never)
        async with serving(service) as address:
            device.commit(2)
            uplink = device.link(address)
            running = asyncio.create_task(uplink.run())
            await until(lambda: len(service.received) == 2)
            uplink.leave()
            await asyncio.wait_for(running, 3)
            assert service.goodbyes == 1
            assert service.reports[-1].items[ItemState.PENDING] == 2

    asyncio.run(scenario())
    assert device.states() == {"pending": 2}
