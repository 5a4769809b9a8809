"""Bad input through the real doors: each has its stated status, what is stored is stated too, and memory stays bounded.

docs/nodes.md has the table; a row of it names its test.
"""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest

from cloud_node.ledger import SqliteLedger
from fusion.errors import EvidenceError, OverloadedError
from fusion.types import ItemState, Verdict
from fusion.wire.channel import client_options, open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.envelope import write_device_message
from fusion.wire.limits import MAX_EVIDENCE_BYTES, MAX_MESSAGE_BYTES
from fusion.wire.messages import ClockPing, ClockPong, Submission
from fusion.wire.service import SERVICE_NAME
from fusion.wire.v1 import perception_pb2

from ..ports import free_address

MIB = 1 << 20


def spoiled(evidence, spoil) -> Submission:
    """A submission whose bytes no writer of ours would make."""
    message = perception_pb2.Evidence.FromString(Submission.of(evidence).blob)
    spoil(message)
    return Submission(evidence.item, message.SerializeToString(deterministic=True))


def _tokens(**fields):
    def spoil(message):
        for name, value in fields.items():
            if name == "shape":
                message.tokens.shape[:] = value
            else:
                setattr(message.tokens, name, value)

    return spoil


BAD = {
    "evidence over 256 KB": (lambda m: setattr(m.maps.layers[0], "symbols", bytes(MAX_EVIDENCE_BYTES)), "bytes"),
    "tokens of another dtype": (_tokens(dtype=perception_pb2.DTYPE_FLOAT32), "int8"),
    "tokens of an unknown dtype": (_tokens(dtype=77), "int8"),
    "fewer tokens than the shape says": (_tokens(data=b"\x01" * 100), "tokens"),
    "more tokens than the cap": (_tokens(shape=(257, 96), data=bytes(257 * 96)), "tokens"),
    "no tokens": (_tokens(shape=(0, 96), data=b""), "tokens"),
    "NaN in the box": (lambda m: setattr(m.box, "x1", float("nan")), "not a finite number"),
    "NaN in a score": (lambda m: m.class_scores.__setitem__("drum", float("nan")), "not a finite number"),
    "an infinite scale": (_tokens(scale=float("inf")), "not a finite number"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_evidence_is_quarantined_by_name_and_its_batch_mates_are_answered(
    serving, connect, make_evidence, tmp_path, bad
):
    spoil, words = BAD[bad]

    async def run():
        async with serving("batch.max_delay_ms=100") as (_, client):
            stream, _ = await connect(client)
            for n in (1, 2, 3):
                good = Submission.of(make_evidence(n))
                await stream.send(spoiled(make_evidence(n), spoil) if n == 2 else good)
            answers = {answer.item.sample.sequence: answer for answer in [await stream.receive() for _ in range(3)]}
            stream.cancel()
            return answers

    answers = asyncio.run(run())
    assert isinstance(answers[1], Verdict)
    assert isinstance(answers[3], Verdict)
    assert (answers[2].state, type(answers[2].error)) == (ItemState.QUARANTINED, EvidenceError)
    assert words in str(answers[2].error)
    assert SqliteLedger.open_reader(tmp_path / "ledger.db").counts() == {
        ItemState.REVIEWED: 2,
        ItemState.QUARANTINED: 1,
    }


def test_a_message_over_the_cap_ends_its_stream_alone_and_stores_nothing(serving, connect, make_evidence, tmp_path):
    async def run():
        async with serving() as (service, client):
            other, _ = await connect(client, "cart-2")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as uncapped:
                stream, _ = await connect(ReviewClient(uncapped))
                item = make_evidence(1)
                await stream.send(
                    Submission(item.item, Submission.of(item).blob + b"\x1a\x80\x80\x50" + bytes(0x50 << 14))
                )
                with pytest.raises(EvidenceError, match="over its cap"):
                    await stream.receive()
            await other.send(Submission.of(make_evidence(2, device="cart-2")))
            assert isinstance(await other.receive(), Verdict)
            other.cancel()

    asyncio.run(run())
    assert MAX_MESSAGE_BYTES < 0x50 << 14
    assert SqliteLedger.open_reader(tmp_path / "ledger.db").counts() == {ItemState.REVIEWED: 1}


@contextlib.contextmanager
def process(tmp_path, *overrides):
    """`cloud-node serve` on a port of its own; (address, resident bytes now)."""
    address = free_address()
    sets = [f"listen={address}", 'reviewers=["fixed:yard"]', f"ledger={tmp_path / 'ledger.db'}", *overrides]
    command = [sys.executable, "-m", "cloud_node.cli", "serve", *(part for one in sets for part in ("--set", one))]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout.readline().startswith("ready on")
        yield address, lambda: _resident(running.pid)
        running.terminate()
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def own_connection(address: str) -> grpc.aio.Channel:
    """Channels of one process to one address share a connection, unless told not to."""
    return grpc.aio.insecure_channel(address, options=[*client_options(), ("grpc.use_local_subchannel_pool", 1)])


async def _flood(call, hello, make_evidence, most: int) -> int:
    """Send and never read until the service takes no more; how many messages it took."""
    await call.write(write_device_message(hello()))
    taken = 0
    blobs = [write_device_message(Submission.of(make_evidence(n))) for n in range(1, 101)]
    with contextlib.suppress(TimeoutError):
        while taken < most:
            async with asyncio.timeout(3):
                await call.write(blobs[taken % 100])
            taken += 1
    return taken


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_slow_reader_is_stopped_by_flow_control_and_memory_stays_bounded(tmp_path, hello, connect, make_evidence):
    """The process itself is weighed while a device sends all the service takes, and never reads an answer."""

    async def run(address, resident):
        async with (
            grpc.aio.insecure_channel(address, options=client_options()) as channel,
            open_channel(address) as other_channel,
        ):
            polite, _ = await connect(ReviewClient(other_channel), "cart-2")
            await polite.send(Submission.of(make_evidence(1, device="cart-2")))
            await polite.receive()
            before = resident()
            call = channel.stream_stream(f"/{SERVICE_NAME}/Exchange")()
            taken = await _flood(call, hello, make_evidence, 60_000)
            grown = resident() - before
            for n in range(2, 12):
                await polite.send(Submission.of(make_evidence(n, device="cart-2")))
                assert isinstance(await polite.receive(), Verdict)
            call.cancel()
            polite.cancel()
            return taken, grown

    with process(tmp_path, "queue.window=8", "review.pixel_timeout_ms=0", "keep_evidence=false") as (address, resident):
        taken, grown = asyncio.run(run(address, resident))
    assert taken < 60_000  # it was stopped
    assert grown < 64 * MIB


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_hundreds_of_idle_streams_cost_little_and_one_more_is_refused_by_name(tmp_path, hello, connect, make_evidence):
    streams = 400

    async def run(address, resident):
        async with contextlib.AsyncExitStack() as stack:
            clients = [ReviewClient(await stack.enter_async_context(own_connection(address))) for _ in range(5)]
            first, _ = await connect(clients[0], "busy")
            before = resident()
            idle = [(await connect(clients[n % 5], f"idle-{n}"))[0] for n in range(streams - 1)]
            grown = resident() - before
            one_more = clients[1].exchange()
            await one_more.send(hello("late"))
            with pytest.raises(OverloadedError, match="400 devices are connected"):
                await one_more.receive()
            await first.send(Submission.of(make_evidence(1, device="busy")))
            assert isinstance(await first.receive(), Verdict)
            await idle[-1].send(ClockPing(1))
            assert isinstance(await idle[-1].receive(), ClockPong)
            for stream in (first, *idle):
                stream.cancel()
            return grown

    with process(tmp_path, f"max_streams={streams}", "review.pixel_timeout_ms=0") as (address, resident):
        grown = asyncio.run(run(address, resident))
    assert grown / streams < 128 << 10


@pytest.mark.parametrize("changes", [{"protocol_version": 99}, {"profiles": ("cd" * 32,)}])
def test_a_refused_hello_is_failed_precondition_on_the_wire(serving, hello, changes):
    async def run():
        async with serving() as (service, _), grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            call = channel.stream_stream(f"/{SERVICE_NAME}/Exchange")()
            await call.write(write_device_message(hello(**changes)))
            assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(run())
