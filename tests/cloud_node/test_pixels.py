"""The service asks for a picture when it is not sure, and makes do without one."""

import asyncio

import pytest

from fusion.types import Box2D, PixelCrop
from fusion.wire.messages import ClockPing, ClockPong, PixelAnswer, PixelRequest, Submission

CROP = PixelCrop(b"a picture", "jpeg", Box2D(0, 0, 96, 96))


def test_an_uncertain_item_is_asked_for_its_pixels(serving, connect, make_evidence, tmp_path):
    async def run():
        async with serving("review.pixel_timeout_ms=5000", "review.confidence_floor=0.89") as (_, client):
            stream, _ = await connect(client)
            for n in range(1, 11):
                await stream.send(Submission.of(make_evidence(n)))
            verdicts, asked = {}, set()
            while len(verdicts) < 10:
                answer = await stream.receive()
                if isinstance(answer, PixelRequest):
                    assert 0 < answer.timeout_ms <= 5000
                    asked.add(answer.item)
                    await stream.send(PixelAnswer(answer.item, CROP))
                else:
                    verdicts[answer.item] = answer
            stream.cancel()
            return verdicts, asked

    verdicts, asked = asyncio.run(run())
    assert asked
    for item, verdict in verdicts.items():
        assert ("pixels" in verdict.lanes) == (item in asked)
        assert not verdict.uncertain


@pytest.mark.parametrize("how", ["empty", "timeout"])
def test_without_pixels_the_first_answer_stands_and_is_marked_uncertain(serving, connect, make_evidence, how):
    timeout = 60_000 if how == "empty" else 60

    async def run():
        async with serving(f"review.pixel_timeout_ms={timeout}", "review.confidence_floor=1.0") as (service, client):
            stream, _ = await connect(client)
            await stream.send(Submission.of(make_evidence(1)))
            request = await stream.receive()
            assert isinstance(request, PixelRequest)
            if how == "empty":
                await stream.send(PixelAnswer(request.item))
            verdict = await stream.receive()
            await stream.send(PixelAnswer(request.item, CROP))  # too late: nothing happens
            await stream.send(ClockPing(1))
            assert isinstance(await stream.receive(), ClockPong)
            stream.cancel()
            assert (
                service.metrics.registry.get_sample_value("fusion_cloud_pixel_requests_total", {"answer": "late"}) == 1
            )
            return verdict

    verdict = asyncio.run(run())
    assert verdict.uncertain
    assert verdict.lanes == ("maps", "tokens")


def test_pixels_are_asked_for_again_on_the_next_stream(serving, connect, make_evidence):
    async def run():
        async with serving("review.pixel_timeout_ms=60000", "review.confidence_floor=1.0") as (_, client):
            stream, _ = await connect(client)
            await stream.send(Submission.of(make_evidence(1)))
            assert isinstance(await stream.receive(), PixelRequest)
            stream.cancel()
            again, _ = await connect(client)
            await again.send(Submission.of(make_evidence(1)))
            assert isinstance(await again.receive(), PixelRequest)
            await again.send(PixelAnswer(make_evidence(1).item, CROP))
            assert "pixels" in (await again.receive()).lanes
            again.cancel()

    asyncio.run(run())
