"""The link's promises: no byte too many, none idle while one waits, all in order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import UnavailableError
from fusion.wire.messages import ClockPing, ClockPong, Goodbye
from replay.whatif.link import BUFFER, FRAMING, Pipe, Wire
from replay.whatif.outages import Outages
from replay.whatif.timing import VirtualTime
from replay.whatif.world import OutageSettings

SECOND = 10**9
messages = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 4000)), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(messages, st.floats(50, 1e6), st.integers(0, 300))
def test_a_pipe_keeps_its_rate_and_order_and_never_idles(sent, rate, latency_ms):
    """`sent` are (milliseconds, bytes) of messages that are handed over."""
    sent = sorted(sent)
    time, work, through = VirtualTime(), [], []
    outages = Outages(OutageSettings(outages=((0.5, 0.9), (2.0, 2.2))))

    async def one(pipe, number, at_ms, size):
        await asyncio.sleep(at_ms / 1e3)
        await pipe.carry(size)
        through.append(number)

    async def main():
        pipe = Pipe(time.clock, outages, rate, latency_ms, lambda *stretch: work.append(stretch))
        await asyncio.gather(*(one(pipe, number, *message) for number, message in enumerate(sent)))
        return pipe

    pipe = time.run(main())
    time.close()
    assert sorted(through) == list(range(len(sent)))
    assert [sent[number][0] for number in through] == [at for at, _ in sent]
    assert pipe.bytes == sum(size for _, size in sent) == sum(size for _, _, size in work)
    for first in range(len(work)):  # every window that begins and ends with a message, hence every window
        for last in range(first, len(work)):
            begin, end = work[first][0], work[last][1]
            assert sum(size for _, _, size in work[first : last + 1]) <= rate * outages.worked_ns(begin, end) / 1e9 + 1
    for number, (begin, end, size) in zip(through, work, strict=True):
        came = round(sent[number][0] * 1e6)
        before = max([end for begin_, end, _ in work if begin_ < begin], default=0)
        assert begin <= max(came, before) + 10, "idle while a message waited"
        assert end <= outages.finish_ns(begin, round(size / rate * 1e9)) + 10


def service(heard, answer=None):
    async def serve(incoming, send, peer):
        del peer
        async for message in incoming:
            heard.append(message)
            if answer:
                await send(answer(message))
            if isinstance(message, Goodbye):
                return

    return serve


def wire_of(time, heard, rate=None, latency_ms=0.0, outages=(), answer=None):
    out = Outages(OutageSettings(outages=outages))
    up, down = Pipe(time.clock, out, rate, latency_ms), Pipe(time.clock, out, None, latency_ms)
    return Wire(time.clock, up, down, service(heard, answer)), up


def test_what_is_sent_comes_in_order_and_the_answer_a_round_trip_later():
    time, heard = VirtualTime(), []

    async def main():
        wire, up = wire_of(time, heard, 1000, 100, answer=lambda ping: ClockPong(ping.sent_ns, 1, 2))
        for number in range(1, 4):
            await wire.send(ClockPing(number))
        answers = [(await wire.receive(), time.clock.now_ns) for _ in range(3)]
        wire.cancel()
        return answers, up

    answers, up = time.run(main())
    time.close()
    assert heard == [ClockPing(1), ClockPing(2), ClockPing(3)]
    assert [pong.ping_sent_ns for pong, _ in answers] == [1, 2, 3]
    each_s = up.bytes / 3 / 1000
    assert [at / 1e9 for _, at in answers] == pytest.approx([each_s * n + 0.2 for n in (1, 2, 3)], abs=1e-6)
    assert up.bytes > 3 * FRAMING


def test_an_outage_delays_and_loses_nothing():
    time, heard = VirtualTime(), []

    async def main():
        wire, _ = wire_of(time, heard, outages=((0, 5),), answer=lambda ping: ClockPong(ping.sent_ns, 1, 2))
        await wire.send(ClockPing(7))
        pong = await wire.receive()
        return pong, time.clock.now_ns

    pong, at = time.run(main())
    time.close()
    assert pong == ClockPong(7, 1, 2)
    assert at == 5 * SECOND


def test_the_sender_waits_when_the_buffer_is_full():
    time, heard = VirtualTime(), []
    word = "x" * 400

    async def main():
        wire, up = wire_of(time, heard, 10_000)
        sent = 0
        while time.clock.now_ns < SECOND:
            await wire.send(Goodbye(word))
            sent += len(word)
        wire.cancel()
        return sent, up.bytes

    sent, carried = time.run(main())
    time.close()
    assert carried <= 10_100
    assert 0.9 * BUFFER < sent < BUFFER + carried + 1000


def test_a_cut_stream_drops_what_was_not_carried_and_frees_the_link():
    time, heard = VirtualTime(), []

    async def main():
        first, up = wire_of(time, heard, 100)
        await first.send(Goodbye("a" * 500))
        await asyncio.sleep(1)
        first.end(UnavailableError("gone"))
        with pytest.raises(UnavailableError, match="gone"):
            await first.receive()
        with pytest.raises(UnavailableError, match="over"):
            await first.send(ClockPing(1))
        second = Wire(time.clock, up, up, service(heard))
        await second.send(ClockPing(9))
        await asyncio.sleep(1)
        return up.bytes

    carried = time.run(main())
    time.close()
    assert heard == [ClockPing(9)]
    assert 100 <= carried < 200
