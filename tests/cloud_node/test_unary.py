"""ReviewItem, health, reflection and metrics of a real server."""

import asyncio
import urllib.request

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fusion.errors import EvidenceError, OverloadedError, UnavailableError
from fusion.types import Verdict
from fusion.wire.client import ReviewClient
from fusion.wire.envelope import write_review_request
from fusion.wire.limits import MAX_MESSAGE_BYTES
from fusion.wire.messages import Submission
from fusion.wire.service import SERVICE_NAME
from fusion.wire.status import DETAILS_KEY

METHOD = f"/{SERVICE_NAME}/ReviewItem"


def test_one_item_one_verdict(serving, make_evidence):
    async def run():
        async with serving() as (_, client):
            verdict = await client.review(Submission.of(make_evidence(1)), timeout_s=5)
            assert isinstance(verdict, Verdict)
            assert verdict.item == make_evidence(1).item
            assert await client.review(Submission.of(make_evidence(1))) == verdict

    asyncio.run(run())


def test_two_callers_of_one_item_get_the_same_answer(serving, make_evidence, held):
    async def run():
        async with serving(reviewer=held) as (_, client):
            calls = [asyncio.create_task(client.review(Submission.of(make_evidence(1)))) for _ in range(2)]
            await held.begins()
            held.gate.set()
            first, second = await asyncio.gather(*calls)
            assert first == second

    asyncio.run(run())


def test_overload_is_resource_exhausted_with_retry_info(serving, make_evidence, held):
    async def run():
        async with (
            serving("queue.items=2", "batch.items=1", reviewer=held) as (service, client),
            grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel,
        ):
            first = [asyncio.create_task(client.review(Submission.of(make_evidence(n)))) for n in (1, 2)]
            while service.metrics.registry.get_sample_value("fusion_cloud_queue_items") < 2:
                await asyncio.sleep(0.01)
            call = channel.unary_unary(METHOD)(write_review_request(Submission.of(make_evidence(3))))
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            status = status_pb2.Status.FromString(dict(await call.trailing_metadata())[DETAILS_KEY])
            assert [one for one in status.details if one.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
            with pytest.raises(OverloadedError) as refused:
                await client.review(Submission.of(make_evidence(4)))
            assert refused.value.retry_after_s > 0
            held.gate.set()
            await asyncio.gather(*first)

    asyncio.run(run())


def test_the_callers_deadline_is_the_items(serving, make_evidence, held):
    async def run():
        async with serving("batch.items=1", reviewer=held) as (service, client):
            first = asyncio.create_task(client.review(Submission.of(make_evidence(1))))
            await held.begins()
            with pytest.raises(UnavailableError, match=r"(?i)deadline"):
                await client.review(Submission.of(make_evidence(2)), timeout_s=0.1)
            held.gate.set()
            await first
            await service.drain()
            value = service.metrics.registry.get_sample_value
            assert value("fusion_cloud_items_total", {"task": "yard", "state": "reviewed"}) == 1

    asyncio.run(run())


def test_a_caller_that_leaves_takes_its_item_along(serving, make_evidence, held):
    async def run():
        async with serving("batch.items=1", reviewer=held) as (service, client):
            value = service.metrics.registry.get_sample_value
            first = asyncio.create_task(client.review(Submission.of(make_evidence(1))))
            await held.begins()
            second = asyncio.create_task(client.review(Submission.of(make_evidence(2))))
            while value("fusion_cloud_queue_items") < 2:
                await asyncio.sleep(0.01)
            second.cancel()
            while value("fusion_cloud_open_items") > 1:
                await asyncio.sleep(0.01)
            held.gate.set()
            await first
            await service.drain()
            assert value("fusion_cloud_items_total", {"task": "yard", "state": "reviewed"}) == 1

    asyncio.run(run())


def test_malformed_evidence_is_invalid_and_garbage_does_not_leak(serving, make_evidence):
    async def run():
        async with serving() as (service, client):
            spoiled = Submission.of(make_evidence(1))
            at = spoiled.blob.index(b"yard")
            bad = Submission(spoiled.item, spoiled.blob[:at] + b"    " + spoiled.blob[at + 4 :])
            with pytest.raises(EvidenceError, match="'task'"):
                await client.review(bad)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
                call = channel.unary_unary(METHOD)(b"\xff\xff\xff")
                assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
                assert "Exception" not in await call.details()

    asyncio.run(run())


def test_a_message_over_the_cap_is_no_overload(serving, make_evidence):
    submission = Submission.of(make_evidence(1))
    too_large = Submission(submission.item, submission.blob + b"\x1a\x80\x80\x50" + bytes(0x50 << 14))

    async def run():
        async with (
            serving() as (service, _),
            grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel,  # without the caps of our own channels
        ):
            with pytest.raises(EvidenceError, match="over its cap"):
                await ReviewClient(channel).review(too_large)

    assert len(too_large.blob) > MAX_MESSAGE_BYTES
    asyncio.run(run())


async def _serving_now(channel):
    request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
    status = (await health_pb2_grpc.HealthStub(channel).Check(request)).status
    return status == health_pb2.HealthCheckResponse.SERVING


async def _until(channel, *, healthy):
    while await _serving_now(channel) != healthy:
        await asyncio.sleep(0.05)


def test_health_follows_the_pipeline(serving, make_evidence, held):
    async def run():
        async with (
            serving("stall_seconds=0.2", reviewer=held) as (service, client),
            grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel,
        ):
            assert await _serving_now(channel)
            review = asyncio.create_task(client.review(Submission.of(make_evidence(1))))
            await _until(channel, healthy=False)
            held.gate.set()
            await review
            await _until(channel, healthy=True)
            await service.drain()
            assert not await _serving_now(channel)

    asyncio.run(run())


def test_reflection_and_metrics_are_served(serving, make_evidence):
    async def run():
        async with serving("metrics=127.0.0.1:0") as (service, client):
            await client.review(Submission.of(make_evidence(1)))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
                stub = reflection_pb2_grpc.ServerReflectionStub(channel)
                request = reflection_pb2.ServerReflectionRequest(list_services="")
                async for response in stub.ServerReflectionInfo(iter([request])):
                    assert SERVICE_NAME in [one.name for one in response.list_services_response.service]
                    break
            url = f"http://127.0.0.1:{service.metrics_port}/metrics"
            text = (await asyncio.to_thread(urllib.request.urlopen, url)).read().decode()
            assert 'fusion_cloud_items_total{state="reviewed",task="yard"} 1.0' in text
            assert "fusion_cloud_commit_seconds_count 1.0" in text

    asyncio.run(run())
