"""What HTTP tells beside the service: life, readiness, and books that add up at any scrape."""

import asyncio
import json
import re
import urllib.error
import urllib.request

import pytest

from cloud_node.server import CloudService
from fusion.errors import UnavailableError
from fusion.review.fixed import FixedReviewer
from fusion.wire.messages import Submission


async def get(service, path):
    """Status and body of one request."""

    def ask():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def books(service):
    """Received, ends by name, open, and what is left over, of one scrape."""
    _, text = await get(service, "/metrics")
    ends = {name: float(n) for name, n in re.findall(r'submission_ends_total\{end="(\w+)"\} (\S+)', text)}
    received, is_open, left = (
        float(re.search(rf"^fusion_cloud_{name} (\S+)$", text, re.MULTILINE)[1])
        for name in ("submissions_total", "submissions_open", "books_open")
    )
    return received, ends, is_open, left


def test_live_and_ready_until_it_drains(serving):
    async def run():
        async with serving("metrics=127.0.0.1:0") as (service, _):
            assert await get(service, "/livez") == (200, json.dumps({"live": True, "reason": ""}))
            assert (await get(service, "/readyz"))[0] == 200
            assert (await get(service, "/healthz"))[0] == 404
            await service.drain()
            status, body = await get(service, "/readyz")
            assert (status, json.loads(body)) == (503, {"ready": False, "reason": "draining"})
            assert (await get(service, "/livez"))[0] == 200

    asyncio.run(run())


def test_live_and_not_ready_while_reviewers_warm_up(make_settings, yard):
    async def run():
        slow = FixedReviewer(yard, seconds_per_batch=1.5)
        service = CloudService(make_settings("metrics=127.0.0.1:0"), reviewers=[slow])
        running = service.running()
        starting = asyncio.create_task(running.__aenter__())
        while not service.metrics_port:
            await asyncio.sleep(0.01)
        status, body = await get(service, "/readyz")
        assert (status, json.loads(body)["reason"]) == (503, "starting")
        assert (await get(service, "/livez"))[0] == 200
        await starting
        assert (await get(service, "/readyz"))[0] == 200
        await running.__aexit__(None, None, None)

    asyncio.run(run())


def test_a_hanging_reviewer_makes_it_unready_and_not_dead(serving, held, make_evidence):
    async def run():
        async with serving("metrics=127.0.0.1:0", "stall_seconds=0.1", reviewer=held) as (service, client):
            call = asyncio.create_task(client.review(Submission.of(make_evidence(1))))
            await held.begins()
            await asyncio.sleep(0.3)
            assert "hangs" in (await get(service, "/readyz"))[1]
            assert (await get(service, "/livez"))[0] == 200
            held.gate.set()
            await call

    asyncio.run(run())


def test_the_books_add_up_at_any_scrape(serving, make_evidence, connect):
    """Under load: repeats in flight, a full queue, an item that no batch can hold, and a device that hangs up."""
    reviewed = [make_evidence(n) for n in range(1, 401)]

    async def run():
        overrides = ("metrics=127.0.0.1:0", "queue.items=24", "batch.tokens=48", "queue.window=400")
        async with serving(*overrides) as (service, client):
            stream, _ = await connect(client)
            leaver, _ = await connect(client, "cart-2")
            for n in range(1, 13):  # half of what may wait, however late it is heard that it hung up
                await leaver.send(Submission.of(make_evidence(n, device="cart-2")))
            leaver.cancel()
            scraped = []

            async def scrape():
                while True:
                    scraped.append(await books(service))

            scraper = asyncio.create_task(scrape())
            poison = Submission.of(make_evidence(400, cells=255))
            for one in reviewed[:-1]:
                await stream.send(Submission.of(one))
                await stream.send(Submission.of(one))
            await stream.send(poison)
            sent = 2 * (len(reviewed) - 1) + 1
            while (last := await books(service))[0] < sent or last[2]:
                await asyncio.sleep(0.02)
            scraper.cancel()
            with pytest.raises((asyncio.CancelledError, UnavailableError)):
                await scraper
            stream.cancel()
            return scraped, last

    scraped, (received, ends, is_open, left) = asyncio.run(run())
    assert len(scraped) > 3
    assert all(books[3] == 0 for books in scraped)
    assert all(r == sum(e.values()) + o for r, e, o, _ in scraped)
    assert (received, is_open, left) == (sum(ends.values()), 0, 0)
    assert ends["reviewed"] > 0
    assert ends["quarantined"] == 1
    assert ends["shed"] > 0
    assert ends["repeated"] > 0
