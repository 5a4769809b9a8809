"""Points and sound that come with an answer to a request for pixels: stored for people, read by nobody else."""

import asyncio
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from cloud_node.direct import DirectService
from cloud_node.ledger import SqliteLedger, open_reader
from fusion.clock import ManualClock
from fusion.codec.points import encode_points
from fusion.codec.sound import encode_sound
from fusion.errors import SpoolError
from fusion.review.fixed import FixedReviewer
from fusion.types import Box2D, DeviceStatus, ItemState, KeptLanes, LedgerCounts, PixelCrop
from fusion.wire.convert import evidence_digest, parse_evidence
from fusion.wire.limits import MAX_EVIDENCE_BYTES, MAX_PIXELS_BYTES
from fusion.wire.messages import (
    ClockPing,
    ClockPong,
    LedgerReport,
    PixelAnswer,
    PixelRequest,
    Submission,
)

CROP = PixelCrop(b"a picture", "jpeg", Box2D(0, 0, 96, 96))
POINTS = encode_points(np.random.default_rng(0).uniform(-3, 3, (300, 3)))
SOUND = encode_sound(np.arange(-4000, 4000, dtype=np.int16), 16_000, 123)
ALL = KeptLanes(CROP, POINTS, SOUND)
UNSURE = "review.confidence_floor=1.0"
ASKS = "review.pixel_timeout_ms=60000"


def answered(serving, connect, evidence, kept, *, again=None):
    """The verdict on `evidence` when the device gives `kept`, and the service's metrics; `again` is sent after it."""

    async def run():
        async with serving(UNSURE, ASKS) as (service, client):
            stream, _ = await connect(client)
            await stream.send(Submission.of(evidence))
            request = await stream.receive()
            assert isinstance(request, PixelRequest)
            await stream.send(PixelAnswer.of(request.item, kept))
            verdict = await stream.receive()
            if again is not None:
                await stream.send(Submission.of(again))
                assert await stream.receive() == verdict
            stream.cancel()
            return verdict, service.metrics.registry.get_sample_value

    return asyncio.run(run())


def stored(tmp_path, item, name="ledger.db"):
    reader = open_reader(str(tmp_path / name))
    try:
        return reader.one(item, with_evidence=True).outcome
    finally:
        reader.close()


def lanes_of(outcome) -> KeptLanes:
    evidence = parse_evidence(outcome.evidence)
    return KeptLanes(evidence.pixels, evidence.points, evidence.sound)


def test_what_the_device_gives_is_stored_with_the_evidence(serving, connect, make_evidence, tmp_path):
    evidence = make_evidence(1)
    verdict, metric = answered(serving, connect, evidence, ALL, again=evidence)
    outcome = stored(tmp_path, evidence.item)
    assert verdict.lanes == ("maps", "tokens", "pixels")
    assert lanes_of(outcome) == ALL
    submitted = Submission.of(evidence).blob
    assert outcome.evidence.startswith(submitted)
    assert outcome.evidence_sha256 == evidence_digest(submitted)
    assert outcome.header["asked"]["lanes"] == ["pixels", "points", "sound"]
    assert metric("fusion_cloud_repeats_total") == 1
    assert metric("fusion_cloud_conflicts_total") == 0  # the same submission is the same, whatever came later
    assert metric("fusion_cloud_context_lanes_total", {"lane": "points"}) == 1
    assert metric("fusion_cloud_context_lanes_total", {"lane": "sound"}) == 1
    assert metric("fusion_cloud_context_lanes_total", {"lane": "refused"}) == 0


def test_points_and_sound_are_kept_without_a_picture_and_nobody_reviews_them(serving, connect, make_evidence, tmp_path):
    evidence = make_evidence(1)
    verdict, metric = answered(serving, connect, evidence, KeptLanes(points=POINTS, sound=SOUND))
    assert verdict.lanes == ("maps", "tokens")
    assert verdict.uncertain
    assert lanes_of(stored(tmp_path, evidence.item)) == KeptLanes(points=POINTS, sound=SOUND)
    assert metric("fusion_cloud_pixel_requests_total", {"answer": "empty"}) == 1


@pytest.mark.parametrize("kept", [KeptLanes(), KeptLanes(CROP)])
def test_a_device_without_points_and_sound_is_answered_as_ever(serving, connect, make_evidence, tmp_path, kept):
    evidence = make_evidence(1)
    verdict, _ = answered(serving, connect, evidence, kept)
    outcome = stored(tmp_path, evidence.item)
    assert lanes_of(outcome) == kept
    assert ("pixels" in verdict.lanes) == (kept.pixels is not None)
    assert ("asked" in outcome.header) == (kept.pixels is not None)


def test_points_and_sound_that_do_not_decode_are_left_out(serving, connect, make_evidence, tmp_path):
    evidence = make_evidence(1)
    hostile = KeptLanes(CROP, replace(POINTS, count=299), replace(SOUND, sample_rate_hz=8_000))
    verdict, metric = answered(serving, connect, evidence, hostile)
    assert "pixels" in verdict.lanes
    assert lanes_of(stored(tmp_path, evidence.item)) == KeptLanes(CROP)
    assert metric("fusion_cloud_context_lanes_total", {"lane": "refused"}) == 2


def test_what_does_not_fit_the_cap_is_left_out_and_the_picture_stays(serving, connect, make_evidence, tmp_path):
    large = make_evidence(1)
    layer = replace(large.maps.layers[0], symbols=bytes(100_000))
    large = replace(large, maps=replace(large.maps, layers=(layer,)))
    picture = replace(CROP, encoded=bytes(MAX_PIXELS_BYTES))
    noise = np.random.default_rng(0).integers(-9999, 9999, 60_000).astype(np.int16)
    kept = KeptLanes(picture, POINTS, encode_sound(noise, 16_000, 0))
    verdict, metric = answered(serving, connect, large, kept)
    outcome = stored(tmp_path, large.item)
    assert "pixels" in verdict.lanes
    assert len(outcome.evidence) <= MAX_EVIDENCE_BYTES
    assert lanes_of(outcome) == replace(kept, sound=None)
    assert metric("fusion_cloud_context_lanes_total", {"lane": "refused"}) == 1


def test_a_lane_that_was_submitted_is_not_replaced(serving, connect, make_evidence, tmp_path):
    evidence = make_evidence(1, sound=SOUND)
    answered(serving, connect, evidence, replace(ALL, sound=encode_sound(np.ones(9, np.int16), 16_000, 5)))
    outcome = stored(tmp_path, evidence.item)
    assert lanes_of(outcome) == ALL
    assert outcome.header["asked"]["lanes"] == ["pixels", "points"]


def test_the_direct_service_stores_what_the_stream_does(serving, connect, make_evidence, make_settings, yard, tmp_path):
    evidence = make_evidence(1)
    verdict, _ = answered(serving, connect, evidence, ALL)
    ledger = SqliteLedger.open(tmp_path / "direct.db")
    try:
        service = DirectService([FixedReviewer(yard)], ledger, make_settings(UNSURE, ASKS), ManualClock(5))
        (outcome,) = service.review([Submission.of(evidence)], lambda _: ALL)
    finally:
        ledger.close()
    streamed, direct = stored(tmp_path, evidence.item), stored(tmp_path, evidence.item, "direct.db")
    assert direct.evidence == streamed.evidence
    assert direct.header == streamed.header
    assert direct.verdict.lanes == verdict.lanes == outcome.verdict.lanes


@pytest.mark.parametrize("damage", ["end", "begin"])
def test_stored_lanes_that_were_changed_are_told(serving, connect, make_evidence, tmp_path, damage):
    evidence = make_evidence(1)
    answered(serving, connect, evidence, ALL)
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        (blob,) = db.execute("SELECT blob FROM evidence").fetchone()
        changed = blob[:-1] + b"?" if damage == "end" else b"?" + blob[1:]
        db.execute("UPDATE evidence SET blob = ?", (changed,))
    db.close()
    with pytest.raises(SpoolError, match="damaged"):
        stored(tmp_path, evidence.item)


def test_devices_tell_how_they_are(serving, connect, make_evidence):
    counts = LedgerCounts(7, 1, {ItemState.PENDING: 2})
    status = DeviceStatus(power_w=9.5, oldest_outbox_s=2.5, software="0.1.0")

    async def heard(stream):
        await stream.send(ClockPing(1))
        assert isinstance(await stream.receive(), ClockPong)

    async def run():
        clock = ManualClock(1_000)
        async with serving(clock=clock) as (service, client):
            first, _ = await connect(client, "cart-1")
            second, _ = await connect(client, "cart-2")
            clock.advance(500)
            await first.send(LedgerReport(counts, status))
            await heard(first)
            clock.advance(50)
            await first.send(LedgerReport(counts))  # says nothing new about itself
            await heard(first)
            one, two = service.devices()
            rendered = service.render().decode()
            first.cancel()
            second.cancel()
            return one, two, rendered

    one, two, rendered = asyncio.run(run())
    assert (one.device, one.task, one.counts, one.status) == ("cart-1", "yard", counts, status)
    assert one.seen_ns - one.connected_ns == 550
    assert one.status_ns - one.connected_ns == 500
    assert (two.device, two.counts, two.status, two.status_ns) == ("cart-2", None, None, None)
    assert two.seen_ns == two.connected_ns
    assert "fusion_cloud_streams 2.0" in rendered
    assert "fusion_cloud_devices_telling 1.0" in rendered
    assert "fusion_cloud_device_lag_seconds_max 2.5" in rendered
    assert "cart-1" not in rendered
