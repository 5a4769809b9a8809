"""Virtual time: waiting takes none of ours, and what goes wrong in it is heard of."""

from __future__ import annotations

import asyncio

import pytest

from replay.whatif.timing import Inline, VirtualTime


def test_an_hour_passes_when_it_is_told_to():
    time, seen = VirtualTime(), []

    async def tick():
        while True:
            await asyncio.sleep(600)
            seen.append(time.clock.now_ns)

    time.start(tick())
    time.reach(50 * 10**9)  # where the recording begins
    assert time.clock.now_ns == 0
    time.reach(3650 * 10**9)
    time.reach(1 * 10**9)  # its clock was set back
    time.close()
    assert seen == pytest.approx([600e9 * n for n in range(1, 7)])
    assert time.clock.now_ns == 3600 * 10**9


def test_a_part_that_fails_is_heard_of():
    time = VirtualTime()

    async def fail():
        await asyncio.sleep(1)
        raise ValueError("a defect")

    time.start(fail())
    time.wait(0.5)
    with pytest.raises(ValueError, match="a defect"):
        time.wait(1)
    time.close()
    time.close()


def test_time_that_stands_still_is_told():
    time = VirtualTime()

    async def forever():
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="stands still"):
        time.run(forever())
    time.close()


def test_work_takes_its_time_one_after_the_other():
    time = VirtualTime()
    inline = Inline(time.clock, lambda number: number)

    async def main():
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(inline, lambda n: (n, time.clock.now_ns), n) for n in (2, 3)]
        results = [await job for job in jobs]
        return results, time.clock.now_ns

    results, now = time.run(main())
    time.close()
    assert results == [(2, 0), (3, 0)]
    assert now == 5 * 10**9


def test_work_that_fails_raises():
    time = VirtualTime()

    async def main():
        await asyncio.get_running_loop().run_in_executor(Inline(time.clock), int, "x")

    with pytest.raises(ValueError, match="'x'"):
        time.run(main())
    time.close()
