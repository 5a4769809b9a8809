"""A drawn yard: a recording that is made up on the fly, and a run over it with known answers."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid, rotation_y
from fusion.recording import open_recording
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.types import (
    AudioChunk,
    Box2D,
    Box3D,
    Image,
    ItemState,
    LedgerCounts,
    Modality,
    PointCloud,
    Reading,
    SlotAnswer,
    Truth,
    TruthObject,
)
from replay.export import registry
from replay.live.demo import bundled_recording
from replay.results.fates import defects
from replay.results.records import ItemResult, RecordingResults, Review, RunResults, SampleResult

STEP_NS = 100_000_000
START_NS = 5_000_000_000
PAINT = {"drum": (60, 110, 190), "pallet": (170, 130, 80), "crate": (130, 95, 55), "cone": (230, 110, 40),
         "person": (190, 60, 70), "forklift": (225, 190, 40)}  # fmt: skip
SIZES = {"drum": (0.6, 0.6, 0.9), "pallet": (1.2, 0.8, 0.15), "crate": (1.0, 1.0, 0.9), "cone": (0.4, 0.4, 0.7),
         "person": (0.5, 0.6, 1.75), "forklift": (2.2, 1.2, 2.1)}  # fmt: skip
CONDITIONS = ("ok", "ok", "leaking", "dented", "toppled", "ok", "broken")


@pytest.fixture(scope="session", autouse=True)
def declared_exporters():
    """Exporters are those that pyproject.toml declares, whatever was known when the package was installed."""
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text())["project"]["entry-points"][registry.GROUP]
    points = [EntryPoint(name, value, registry.GROUP) for name, value in declared.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda *, group: points if group == registry.GROUP else ())
        yield


class DrawnRecording:
    """A `RecordingReader` of `count` samples of a yard with six objects; `calls` counts passes over the readings."""

    def __init__(self, count=12, *, lidar=True, speech=True, width=640, height=384):
        self.count, self.lidar, self.speech = count, lidar, speech
        self.path = Path("drawn.mcap")
        self.calls = 0
        mount = rigid(rotation_y(0.1), np.array([0.25, 0, 1.3])) @ invert(CAMERA_OPTICAL_FROM_BODY)
        self.camera = CameraCalibration.pinhole(width, height, 1.4, mount)
        self.rig = Rig({"front": self.camera}, {"roof": rigid(np.eye(3), np.array([0.1, 0, 1.6]))})

    def time(self, index):
        return START_NS + index * STEP_NS

    def info(self):
        sensor = SensorInfo(Modality.CAMERA, "front", self.count, START_NS, self.time(self.count - 1), 10.0, ())
        return RecordingInfo(self.path, "drawn", "0" * 64, 0, "yard", {"front": sensor}, self.rig, self.count, {})

    def sizes(self):
        return {}

    def objects(self, index):
        found = []
        for track, label in enumerate(PAINT, 1):
            x, y = 4.0 + 2.1 * track - 0.03 * index, (3.2 if track % 2 else -3.0) + 0.2 * track
            solid = Box3D(x, y, SIZES[label][2] / 2, *SIZES[label], 0.2 * track)
            condition = CONDITIONS[track - 1]
            asked = track == 3 and bool(self.words(index))
            found.append(TruthObject(track, label, condition, self.outline(solid), solid, asked, "none", 0.9))
        return tuple(found)

    def outline(self, solid):
        c, s = np.cos(solid.yaw), np.sin(solid.yaw)
        signs = np.array([[a, b, h] for a in (-1, 1) for b in (-1, 1) for h in (-1, 1)], np.float64)
        local = signs * [solid.length / 2, solid.width / 2, solid.height / 2]
        turned = local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [solid.x, solid.y, solid.z]
        pixels, _ = self.camera.project(turned)
        low, high = pixels.min(0), pixels.max(0)
        limit = [self.camera.width, self.camera.height]
        low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
        return Box2D(*map(float, (*low, *high)))

    def words(self, index):
        if not self.speech:
            return ""
        phase = index / max(1, self.count)
        if 0.2 <= phase < 0.45:
            return "check the left crate"
        return "count the drums" if 0.6 <= phase < 0.75 else ""

    def image(self, index):
        height, width = self.camera.height, self.camera.width
        rng = np.random.default_rng(index)
        rows = np.linspace(0, 1, height)[:, None, None]
        pixels = np.where(rows < 0.36, [150, 178, 205] + rows * 90, [120, 116, 108] + rows * 30)
        pixels = np.broadcast_to(pixels, (height, width, 3)) + rng.normal(0, 5, (height, width, 3))
        pixels = np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8))
        for thing in reversed(self.objects(index)):
            box = thing.box2d
            corner, other = (int(box.x1), int(box.y1)), (int(box.x2), int(box.y2))
            cv2.rectangle(pixels, corner, other, PAINT[thing.label], -1)
            cv2.rectangle(pixels, corner, other, tuple(c // 2 for c in PAINT[thing.label]), 2)
        _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        return Image(pixels, bytes(encoded), "jpeg")

    def points(self, index):
        rng = np.random.default_rng(1000 + index)
        angle, reach = rng.uniform(-1.05, 1.05, 4000), 3 + 22 * rng.random(4000) ** 1.6
        ground = np.stack([reach * np.cos(angle), reach * np.sin(angle), rng.normal(0, 0.02, 4000)], 1)
        parts = [ground]
        for thing in self.objects(index):
            b = thing.box3d
            local = rng.uniform(-0.5, 0.5, (260, 3)) * [b.length, b.width, b.height]
            local[:, 0] = -b.length / 2 * rng.random(260) ** 0.3
            c, s = np.cos(b.yaw), np.sin(b.yaw)
            parts.append(local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [b.x, b.y, b.z])
        ego = np.concatenate(parts) - [0.1, 0, 1.6]
        return PointCloud(np.concatenate([ego, np.full((len(ego), 1), 0.4)], 1).astype(np.float32))

    def readings(self, start_cursor=0):
        self.calls += 1
        cursor = 0
        for index in range(self.count):
            made = [("front", Modality.CAMERA, 0, self.image)]
            if self.lidar:
                made.append(("roof", Modality.LIDAR, 7_000_000, self.points))
            if self.speech:
                made.append(("mic", Modality.SPEECH, -STEP_NS, self.sound))
            for name, modality, late, payload in made:
                cursor += 1
                if cursor > start_cursor:
                    yield cursor, Reading(name, modality, self.time(index) + late, payload(index))

    def sound(self, index):
        tone = 3000 * np.sin(np.arange(1600) * 0.2) * bool(self.words(index))
        return AudioChunk(tone.astype(np.int16), 16000)

    def truth(self):
        for index in range(self.count):
            words = self.words(index)
            yield Truth(self.time(index), self.objects(index), "inspect" if words else "none", words)


def slot_answer(options, chosen, sure):
    rest = (1 - sure) / (len(options) - 1)
    return SlotAnswer(chosen, {option: sure if option == chosen else rest for option in options})


def drawn(*key):
    return int.from_bytes(hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=6).digest(), "big") / 2.0**48


def make_item(task, recording, index, thing, state, *, right=True, reasons=("uncertain",)):
    """One item about a true object; when not `right`, the verdict names another condition."""
    asked = "yes" if thing.asked_for else "no"
    true = {"object": thing.label, "condition": thing.condition, "asked": asked, "action": "none"}
    said = dict(true) if right else {**true, "condition": "broken" if thing.condition != "broken" else "ok"}
    sure = 0.5 + 0.49 * drawn(index, thing.track, "sure")
    verdict = {}
    if state is ItemState.REVIEWED:
        verdict = {slot.name: slot_answer(slot.options, said[slot.name], sure) for slot in task.slots}
    sent = state not in (ItemState.PASSED, ItemState.DEDUPLICATED)
    box = thing.box2d
    seen = Box2D(box.x1 + 3, box.y1 - 2, box.x2 + 4, box.y2 + 1)
    fused = {**true, "condition": "ok", "asked": "no"}
    return ItemResult(
        f"cart/0123456789abcdef/{index + 1}#{thing.track}", index + 1, recording.time(index), thing.track, seen,
        thing.label, 0.4 + 0.5 * drawn(index, thing.track), state,
        tuple(reasons) if state is not ItemState.PASSED else (),
        evidence_bytes=int(1200 + 2200 * drawn(index, thing.track, "bytes")) if sent else 0,
        maps_bytes=900 if sent else 0, crop_bytes=2600, lanes=("maps", "tokens") if verdict else (),
        into=f"cart/0123456789abcdef/1#{thing.track}" if state is ItemState.DEDUPLICATED else "",
        state_reason="over the byte budget" if state is ItemState.SHED else "",
        uncertain=sure < 0.6 and bool(verdict), verdict=verdict,
        verdict_latency_ms=30 + 400 * drawn(index, "wait") if verdict else 0,
        device_answers=fused, detector_answers={**fused, "condition": "ok"}, truth_answers=true, truth=thing,
    )  # fmt: skip


def make_run(recording, task=None, *, every=3):
    """A closed run over `recording`: every `every`-th item is sent, one in nine of the verdicts is wrong."""
    task = task or Task.load("yard")
    items = []
    for index in range(recording.count):
        for thing in recording.objects(index):
            number = index * 6 + thing.track
            state, reasons = ItemState.PASSED, ()
            if number % every == 0:
                state = ItemState.REVIEWED
                reasons = ("asked_for",) if thing.asked_for else (("uncertain", "disagreement")[number % 2],)
                reasons = ("audit",) if number % 11 == 0 else reasons
            elif number % 13 == 0:
                state, reasons = ItemState.DEDUPLICATED, ("uncertain",)
            elif number % 29 == 0:
                state, reasons = ItemState.SHED, ("uncertain",)
            items.append(make_item(task, recording, index, thing, state, right=number % 27 != 0, reasons=reasons))
    samples = tuple(
        SampleResult(i + 1, 3 * i + 1, recording.time(i), 24 + 14 * drawn(i, "edge") + 25 * (drawn(i, "slow") > 0.98),
                     18 + 8 * drawn(i, "edge"), 2.0, 1.5, {"roof": 7.0}, "none")
        for i in range(recording.count)
    )  # fmt: skip
    return close_run(run_of(task, samples, items, "held-out.mcap"))


def judged(results, recording, name="drawn"):
    """The one recording of a run, called `name`, with what was true at each sample and what became of its defects."""
    one = results.recordings[0]
    samples = tuple(replace(s, truths=recording.objects(i)) for i, s in enumerate(one.samples))
    items = tuple(replace(i, recording=name, id=i.id.replace("cart/", f"cart-{name}/")) for i in one.items)
    found = defects(results.task, name, samples, items, continuous=True)
    return replace(one, name=name, source=f"{name}.mcap", samples=samples, items=items, defects=found)


EMPTY = LedgerCounts(0, 0, {})
BATCHES = (1, 4, 4, 7, 8, 8)


def run_of(task, samples, items, source="held-out.mcap", split=""):
    """A run of one recording, its books and figures still empty."""
    reviews = tuple(Review(f"r{number}", size, 10.0) for number, size in enumerate(BATCHES))
    told = tuple(replace(item, recording="drawn") for item in items)
    one = RecordingResults("drawn", source, tuple(samples), told, (), EMPTY, EMPTY, reviews, split)
    return RunResults(task, (one,), {})


def with_recording(results, **changes):
    """The same run with its one recording changed."""
    return RunResults(results.task, (replace(results.recordings[0], **changes),), results.summary)


def close_run(results):
    """The same run with both ledgers and the summary counted from its items."""
    counted = Counter(item.state for item in results.items)
    states = {state: counted.get(state, 0) for state in ItemState}
    senders = {item.sequence for item in results.items if item.state is ItemState.REVIEWED}
    cloud = LedgerCounts(len(senders), 0, {ItemState.REVIEWED: states[ItemState.REVIEWED]})
    summary = {"samples": len(results.samples), "gaps": 0, "items": len(results.items)}
    summary |= {s.value: states[s] for s in ItemState if s is not ItemState.PENDING}
    summary |= {"lost": 0, "duplicates": 0, "edge_ms_p50": 31.2, "edge_ms_p99": 55.0, "engine_ms_p50": 22.5,
                "commit_ms_p50": 2.1, "evidence_bytes_p50": 2210, "jpeg_bytes_p50": 38400, "webp_bytes_p50": 16900,
                "webp_crop_bytes_p50": 2900,
                "detector_map50": 0.912, "reviews_per_s": 41.0, "review_batch_mean": 5.3, "edge_rss_mb": 318.0,
                "edge_start_s": 1.9}  # fmt: skip
    edge = LedgerCounts(len(results.samples), 0, states)
    one = replace(results.recordings[0], edge_ledger=edge, cloud_ledger=cloud)
    return RunResults(results.task, (one,), summary)


@pytest.fixture
def drawn_recording():
    """Twelve samples of the drawn yard; `DrawnRecording` for others."""
    return DrawnRecording()


@pytest.fixture
def drawn_run(drawn_recording):
    """A closed run over `drawn_recording`."""
    return make_run(drawn_recording)


@pytest.fixture(scope="session")
def draw():
    """What runs are made of, for those that differ."""
    return SimpleNamespace(recording=DrawnRecording, run=make_run, item=make_item, close=close_run,
                           changed=with_recording, of=run_of, judged=judged)  # fmt: skip


def cut_recording(
    out, from_s, to_s, change=lambda reading: reading, change_truth=lambda truth: truth, change_rig=lambda rig: rig
):
    """A stretch of the bundled patrol as a recording of its own; `change` may alter a reading, or drop it with None."""
    source = open_recording(bundled_recording("yard"))
    start = min(reading.capture_time_ns for _, reading in source.readings())
    low, high = start + round(from_s * 1e9), start + round(to_s * 1e9)
    with RecordingWriter(out, change_rig(source.info().rig), "yard") as writer:
        write = {Image: writer.camera, PointCloud: writer.lidar, AudioChunk: writer.audio}
        for _, reading in source.readings():
            if low <= reading.capture_time_ns < high and (reading := change(reading)):
                write[type(reading.payload)](reading.sensor, reading.capture_time_ns, reading.payload)
        for truth in source.truth():
            if low <= truth.time_ns < high:
                writer.truth(change_truth(truth))
    return out


@pytest.fixture(scope="session")
def cut():
    """`cut_recording`, for tests of whole runs that need not be long."""
    return cut_recording
