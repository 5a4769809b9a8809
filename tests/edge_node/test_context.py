"""From sensors to the ledger over real gRPC: what people see of an uncertain item, and how the device is."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from cloud_node.config import CloudSettings
from cloud_node.ledger import open_reader
from cloud_node.server import CloudService
from edge_node.config import ScreeningSettings, SpoolSettings, TrackerSettings, UplinkSettings
from edge_node.fakes import FAKE_PROFILE, FakePerception, FakeSource, camera_frames
from edge_node.pipeline import Pipeline, Stages
from edge_node.power import Power
from edge_node.screener import Screener
from edge_node.settings.evidence import EvidenceSettings
from edge_node.spool import Spool, SpoolWorker
from edge_node.tracker import Tracker
from edge_node.uplink import Identity, Uplink
from edge_node.vitals import Vitals, software_version
from fusion.clock import SystemClock
from fusion.codec.points import decode_points
from fusion.codec.sound import decode_sound
from fusion.config import from_overrides
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid
from fusion.review.fixed import FixedReviewer
from fusion.synchronization import Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import AudioChunk, Image, ItemState, Modality, PointCloud, Reading
from fusion.wire.convert import parse_evidence

RIG = Rig(
    {"front": CameraCalibration.pinhole(640, 384, 1.4, invert(CAMERA_OPTICAL_FROM_BODY))},
    {"roof": rigid(np.eye(3), np.array([0.0, 0.0, 1.0]))},
)
SCREENING = ScreeningSettings(onset_s=0.0, repeat_s=0.2, audit_rate=0.0)


def readings(seconds: float = 1.0) -> list[Reading]:
    """Pictures, a wall of points ahead, and a voice; in the order of time."""
    rng = np.random.default_rng(4)
    picture = Image(np.zeros((384, 640, 3), np.uint8))
    found = [replace(frame, payload=picture) for frame in camera_frames(round(seconds * 10))]
    wall = np.c_[np.full(4000, 8.0), rng.uniform(-8, 8, 4000), rng.uniform(-4, 4, 4000), np.zeros(4000)]
    time = np.arange(1600) / 16_000
    for frame in tuple(found):
        found.append(
            Reading("roof", Modality.LIDAR, frame.capture_time_ns - 5_000_000, PointCloud(wall.astype(np.float32)))
        )
        loud = 9000 * np.sin(time * 2 * np.pi * 700) * (frame.capture_time_ns % 400_000_000 == 0)
        pcm = (loud + rng.normal(0, 10, 1600)).astype(np.int16)
        found.append(Reading("mic", Modality.SPEECH, frame.capture_time_ns - 100_000_000, AudioChunk(pcm, 16_000)))
    return sorted(found, key=lambda reading: reading.capture_time_ns)


def screen(spool: Spool, settings: EvidenceSettings, vitals: Vitals) -> None:
    """The device's own pipeline over `readings`, into its spool."""
    source = FakeSource(readings(), sensors=frozenset({"front", "roof", "mic"}), rig=RIG)
    perception = FakePerception(evidence=settings)
    stages = Stages(
        Synchronizer.of_task(Task.load("yard"), SynchronizerSettings()),
        perception,
        Tracker(TrackerSettings(), enabled=True),
        Screener(SCREENING, tracking=True),
    )

    def store(record):
        vitals.observe(record)
        spool.commit([record])

    resume = spool.resume(source.content, "first")
    pipeline = Pipeline(
        stages, resume, store, SystemClock(), device="cart-1", epoch=spool.epoch, sequence=1, rig=source.rig
    )
    for cursor, reading in source.readings(0):
        pipeline.feed(cursor, reading)
    pipeline.finish()


def played(folder, settings: EvidenceSettings, **uplink):
    """Everything uncertain, reviewed by a service that is never sure: the rows of its ledger and its device."""
    spool = Spool.open(folder / "spool.db", "cart-1", "yard", settings=SpoolSettings(keep_free_bytes=0))
    cloud = from_overrides(
        CloudSettings,
        ["listen=127.0.0.1:0", f"ledger={folder / 'ledger.db'}", "review.confidence_floor=1.0",
         "review.pixel_timeout_ms=60000"],
    )  # fmt: skip
    sizes = {}

    async def run():
        link = None
        vitals = Vitals(SystemClock(), Power.off(), lambda: link.counts.sent_bytes)
        screen(spool, settings, vitals)
        sizes["evidence"], sizes["all"] = spool.query("SELECT sum(length(evidence)), sum(bytes) FROM outbox")[0]
        worker = SpoolWorker(spool)
        worker.start()
        reviewer = FixedReviewer(Task.load("yard"), frozenset({FAKE_PROFILE}))
        try:
            async with CloudService(cloud, reviewers=[reviewer]).running() as service:
                identity = Identity("cart-1", spool.epoch, "yard", {"detector": "fake"}, FAKE_PROFILE)
                link_settings = UplinkSettings(address=f"127.0.0.1:{service.port}", report_s=0.05, **uplink)
                link = Uplink(link_settings, identity, worker, SystemClock(), status=vitals.status)
                task = asyncio.create_task(link.run())
                async with asyncio.timeout(60):
                    while not (rows := service.devices()) or rows[0].status is None or rows[0].status.outbox_items:
                        await asyncio.sleep(0.01)
                link.finish()
                await asyncio.wait_for(task, 30)
            return rows[0], link.counts
        finally:
            worker.close()

    device, counts = asyncio.run(run())
    reader = open_reader(str(folder / "ledger.db"))
    try:
        return list(reader.outcomes(with_evidence=True)), device, counts, sizes
    finally:
        reader.close()


def test_an_uncertain_items_points_and_sound_reach_the_ledger_and_the_devices_status_the_service(tmp_path):
    outcomes, device, counts, sizes = played(tmp_path, EvidenceSettings(context_sound=True, max_points=500))
    assert len(outcomes) > 3
    spoken = 0
    for outcome in outcomes:
        evidence = parse_evidence(outcome.evidence)
        assert outcome.state is ItemState.REVIEWED
        assert outcome.verdict.lanes == ("pixels",)
        points = decode_points(evidence.points)
        assert 0 < len(points) <= 500
        np.testing.assert_allclose(points[:, 0], 8.0, atol=0.006)  # the wall, in the ego frame
        pixels, _ = RIG.cameras["front"].project(points)
        margin = 0.25 * np.array([evidence.box.x2 - evidence.box.x1, evidence.box.y2 - evidence.box.y1]) + 1
        assert (pixels >= np.array([evidence.box.x1, evidence.box.y1]) - margin).all()
        assert (pixels <= np.array([evidence.box.x2, evidence.box.y2]) + margin).all()
        if evidence.sound:
            spoken += 1
            heard = decode_sound(evidence.sound)
            end_ns = evidence.sound.start_ns + len(heard) * 62_500
            assert 0 <= evidence.time_ns - end_ns <= 200_000_000
            assert np.abs(heard).max() > 8000
    assert spoken
    assert counts.sent_bytes == sizes["evidence"]  # ordinary evidence weighs what it did
    assert sizes["all"] > 2 * sizes["evidence"]
    status = device.status
    assert (device.device, device.counts.samples, status.outbox_items, status.spool_bytes) == ("cart-1", 10, 0, 0)
    assert status.latency_p99_ms >= status.latency_p50_ms > 0
    assert status.samples_per_s > 0
    assert status.power_w is None  # nothing here measures it
    assert status.software == software_version()


@pytest.mark.parametrize("on", ["points", "sound", "nothing"])
def test_what_is_off_is_not_kept_and_what_is_on_needs_no_pixels(tmp_path, on):
    settings = EvidenceSettings(context_points=on == "points", context_sound=on == "sound")
    outcomes, _, _, sizes = played(tmp_path, settings, pixels=False)
    lanes = [parse_evidence(outcome.evidence) for outcome in outcomes]
    assert all(one.pixels is None for one in lanes)
    assert any(one.points for one in lanes) == (on == "points")
    assert any(one.sound for one in lanes) == (on == "sound")
    assert all(outcome.verdict.lanes == () for outcome in outcomes)
    if on == "nothing":
        assert all(outcome.header.get("asked") is None for outcome in outcomes)
        assert sizes["all"] - sizes["evidence"] < 60 * len(outcomes)  # the pictures, which are a line each here
