"""Gears: frames thinned out to a rate, and models changed between two samples without anybody waiting."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.fakes import FakePerception, detection
from edge_node.perception import Look
from edge_node.power import Gearbox, GearedPerception, RateGate, check_gear
from edge_node.screener import Decision
from edge_node.settings.power import GearSettings
from fusion.errors import ConfigError, ModelError
from fusion.types import Box2D, ItemId, ItemState, Sample, SampleId
from fusion.wire.convert import parse_evidence

MS = 10**6
GEARS = (GearSettings(), GearSettings(rate_hz=2.0), GearSettings(models="light"))


def test_a_rate_is_kept_on_average_although_stamps_jitter():
    gate, stamps = RateGate(), [100 * i + (3 if i % 2 else -3) for i in range(1, 101)]
    assert sum(gate.admit(stamp * MS, 4.0) for stamp in stamps) == 40
    assert all(gate.admit(stamp * MS, 0.0) for stamp in stamps)


def test_a_clock_that_is_set_does_not_silence_the_stream():
    gate = RateGate()
    assert gate.admit(10_000 * MS, 1.0)
    assert not gate.admit(10_100 * MS, 1.0)
    assert gate.admit(3_000 * MS, 1.0)
    assert gate.admit(90_000 * MS, 1.0)


@given(st.floats(0.5, 60), st.floats(1, 120), st.integers(2, 300))
def test_no_more_than_the_rate_passes_and_not_much_less(rate_hz, camera_hz, frames):
    gate = RateGate()
    passed = sum(gate.admit(round(i * 1e9 / camera_hz), rate_hz) for i in range(frames))
    seconds = (frames - 1) / camera_hz
    assert passed <= min(frames, seconds * rate_hz + 1.2)
    if rate_hz <= camera_hz / 2:
        assert passed >= seconds * rate_hz * 0.99 - 1


def test_a_gear_says_why_it_holds_a_frame():
    box = Gearbox(GEARS)
    assert [box.hold(t * MS) for t in (0, 10, 20)] == ["", "", ""]
    box.shift(1, "over the power budget")
    assert [box.hold(t * MS) for t in (30, 40, 530)] == ["", "over the power budget", ""]
    box.shift(0, "")
    assert box.hold(531 * MS) == ""


def test_a_highest_gear_with_a_rate_is_no_excess():
    box = Gearbox((GearSettings(rate_hz=2.0), GearSettings(rate_hz=1.0)))
    box.shift(0, "")
    assert [box.hold(t * MS) for t in (0, 10)] == ["", "held to 2 Hz by the power settings"]


def sample(number: int) -> Sample:
    return Sample(SampleId("cart-1", "a" * 16, number), number * 10**8, {}, None, number)


def look_at(perception: GearedPerception, number: int) -> Look:
    return perception.fuse(sample(number), perception.detect(sample(number)))


def evidence_models(perception: GearedPerception, look: Look, number: int) -> dict:
    decision = Decision(ItemId(SampleId("cart-1", "a" * 16, number), 1), ItemState.PENDING)
    return dict(parse_evidence(perception.encode(sample(number), look, 0, 1, decision).evidence).models)


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def heavy_and_light() -> tuple[FakePerception, FakePerception]:
    boxes = (detection({"drum": 0.9, "pallet": 0.1}, Box2D(0, 0, 9, 9)),)
    kinds = {"classes": ("drum", "pallet"), "see": lambda _: Look(boxes)}
    return FakePerception(models={"detector": "d", "fusion": "f"}, **kinds), FakePerception(
        models={"detector": "d"}, **kinds
    )


def test_models_load_in_the_background_and_take_over_between_two_samples():
    own, light = heavy_and_light()
    go, loads = threading.Event(), []

    def load(models: str) -> FakePerception:
        assert threading.current_thread().name == "gear"
        assert go.wait(10)
        loads.append(models)
        return light

    perception = GearedPerception(own)
    box = Gearbox(GEARS, perception, load)
    first = look_at(perception, 1)
    box.shift(2, "over the power budget")
    box.shift(2, "over the power budget")
    assert evidence_models(perception, first, 1) == {"detector": "d", "fusion": "f"}
    second = look_at(perception, 2)  # still loading: what looks goes on looking
    go.set()
    until(lambda: perception._wanted is light)
    assert evidence_models(perception, second, 2) == {"detector": "d", "fusion": "f"}  # begun is finished
    third = look_at(perception, 3)
    assert evidence_models(perception, third, 3) == {"detector": "d"}
    assert perception.profile == own.profile
    box.shift(0, "")
    assert evidence_models(perception, look_at(perception, 4), 4) == {"detector": "d", "fusion": "f"}
    box.shift(2, "over the power budget")
    assert perception._wanted is light  # kept, so at once
    assert loads == ["light"]


def test_a_gear_that_was_left_while_it_loaded_does_not_come_back():
    own, light = heavy_and_light()
    go = threading.Event()
    perception = GearedPerception(own)
    box = Gearbox(GEARS, perception, lambda _: go.wait(10) and light)
    box.shift(2, "over the power budget")
    box.shift(0, "")
    go.set()
    until(lambda: "light" in box._ready)
    assert perception._wanted is own


def test_models_that_are_gone_are_told_and_what_looks_goes_on(caplog):
    def load(models: str) -> FakePerception:
        raise ModelError("light/detector.onnx: no such file")

    own, _ = heavy_and_light()
    perception = GearedPerception(own)
    box = Gearbox(GEARS, perception, load)
    box.shift(2, "over the power budget")
    until(lambda: "light/detector.onnx: no such file; what looks goes on looking" in caplog.text)
    assert look_at(perception, 1).detections
    assert perception._wanted is own


@pytest.mark.parametrize("fault", [ModelError("light/detector.onnx: no such file"), MemoryError("of the GPU")])
def test_models_that_could_not_be_loaded_once_are_tried_again(caplog, fault):
    own, light = heavy_and_light()
    tries = []

    def load(models: str) -> FakePerception:
        tries.append(models)
        if len(tries) == 1:
            raise fault
        return light

    perception = GearedPerception(own)
    box = Gearbox(GEARS, perception, load)
    box.shift(2, "over the power budget")
    until(lambda: f"{fault}; what looks goes on looking" in caplog.text and not box._loading)
    box.shift(0, "")
    box.shift(2, "over the power budget")
    until(lambda: perception._wanted is light)
    assert tries == ["light", "light"]


def test_a_gear_of_another_trunk_or_with_other_classes_is_refused():
    own = FakePerception()
    check_gear("light", FakePerception(models={}), own)
    with pytest.raises(ConfigError, match=r"power\.gears: light has the profile 9999.*must stand on the same trunk"):
        check_gear("light", FakePerception(profile="9" * 64), own)
    with pytest.raises(ConfigError, match="light tells other classes"):
        check_gear("light", FakePerception(classes=("cat",)), own)
