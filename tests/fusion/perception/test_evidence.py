from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.codec import RATES, decode_maps, dequantize_tokens, unpack_gates
from fusion.codec.synthetic import synthetic_maps
from fusion.errors import InputError, ModelError
from fusion.perception import DetectorResult, crop_pixels, make_evidence
from fusion.preparation import Placement, decode_image
from fusion.types import Box2D, Box3D, Detection, FusedObject, FusedScene, Image, ItemId, SampleId, SendReason
from fusion.wire.convert import parse_evidence, serialize_evidence

ITEM = ItemId(SampleId("cart", "0123456789abcdef", 1), 2)
WHOLE = Placement(1.0, 0.0, 0.0)


@pytest.fixture
def result(profile):
    detections = (
        Detection(Box2D(8, 8, 40, 40), "red", 0.9, np.array([0.9, 0.05, 0.0], np.float32)),
        Detection(Box2D(60, 20, 100, 70), "blue", 0.4, np.array([0.1, 0.2, 0.4], np.float32)),
    )
    scores = [np.zeros(profile.map_size(i), np.float32) for i in range(3)]
    return DetectorResult(detections, synthetic_maps(profile, 9), scores, WHOLE, 1)


def test_the_evidence_carries_what_the_device_knows(profile, task, result):
    rng = np.random.default_rng(0)
    box3d = Box3D(5, 1, 0.4, 0.6, 0.6, 0.9, 0.1)
    objects = tuple(
        FusedObject(rng.normal(0, 1, 96).astype(np.float32), {"red": 0.2}, {"ok": 0.3 + i}, 0.7, box3d)
        for i in range(2)
    )
    scene = FusedScene(objects, rng.normal(0, 1, (8, 96)).astype(np.float32), ages_ns={"camera": 3, "lidar": 90})
    evidence = make_evidence(profile, ITEM, task, 123, 4, result, scene, 1, (SendReason.AUDIT,), 0.5, {"fusion": "abc"})
    assert (evidence.item, evidence.task, evidence.time_ns, evidence.track) == (ITEM, "squares", 123, 4)
    assert (evidence.profile, evidence.models) == (profile.sha256, {"fusion": "abc"})
    assert evidence.box == Box2D(60, 20, 100, 70)
    assert (evidence.image_width, evidence.image_height) == (128, 96)
    assert evidence.class_scores == pytest.approx({"red": 0.1, "green": 0.2, "blue": 0.4})
    assert evidence.opinion.condition_scores == {"ok": 1.3}
    assert (evidence.opinion.asked_score, evidence.opinion.box3d) == (0.7, box3d)
    assert (evidence.reasons, evidence.value, evidence.pixels) == ((SendReason.AUDIT,), 0.5, None)
    assert evidence.ages_ns == {"camera": 3, "lidar": 90}
    tokens = dequantize_tokens(evidence.tokens)
    assert tokens.shape == (9, 96)
    assert np.abs(tokens[0] - objects[1].token).max() <= evidence.tokens.scale
    assert np.abs(tokens[1:] - scene.latents).max() <= evidence.tokens.scale


def test_a_coarser_rate_sends_fewer_bytes_and_of_the_same_item(profile, task, result):
    rng = np.random.default_rng(0)
    objects = tuple(FusedObject(rng.normal(0, 1, 96).astype(np.float32), {"red": 0.2}, {}, 0.7) for _ in range(2))
    scene = FusedScene(objects, rng.normal(0, 1, (8, 96)).astype(np.float32), ages_ns={"camera": 3})
    made = [
        make_evidence(profile, ITEM, task, 0, 1, result, scene, 1, (SendReason.AUDIT,), 0.5, {}, rate) for rate in RATES
    ]
    sizes = [len(serialize_evidence(evidence)) for evidence in made]
    assert sizes == sorted(set(sizes), reverse=True)
    assert [evidence.tokens.values.shape for evidence in made] == [(9, 96), (1, 96), (1, 96), (1, 96)]
    finest = decode_maps(profile, made[0].maps)
    for rate, evidence in zip(RATES, made, strict=True):
        assert parse_evidence(serialize_evidence(evidence)).maps == evidence.maps
        assert np.abs(dequantize_tokens(evidence.tokens)[0] - objects[1].token).max() <= evidence.tokens.scale
        for level, (found, best) in enumerate(zip(decode_maps(profile, evidence.maps), finest, strict=True)):
            sent = level > 0 or rate.layers > 1
            assert np.abs(found.astype(int) - best).max(initial=0) <= (1 << rate.step_exponent) // 2 or not sent
            assert sent or not found.any()


def test_the_maps_are_those_around_the_box(profile, task, result):
    evidence = make_evidence(profile, ITEM, task, 0, 1, result, None, 0, (), 0.0, {})
    assert evidence.tokens is None
    assert evidence.ages_ns == {}
    assert evidence.opinion.asked_score is None
    decoded = decode_maps(profile, evidence.maps)
    gates = unpack_gates(profile, evidence.maps)
    for whole, window, gate, found in zip(result.maps, evidence.maps.windows, gates, decoded, strict=True):
        inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width]
        assert np.array_equal(found, np.where(gate, inside, 0))
    window = evidence.maps.windows[0]
    assert gates[0][1 - window.y : 5 - window.y, 1 - window.x : 5 - window.x].all()


def test_a_wrong_map_does_not_leave_the_device(profile, task, result):
    broken = replace(result, maps=[m[:, :-1] for m in result.maps])
    with pytest.raises(ModelError, match="map p3"):
        make_evidence(profile, ITEM, task, 0, 1, broken, None, 0, (), 0.0, {})


def frame(height=300, width=400):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[100:140, 200:240] = (250, 30, 20)
    return Image(pixels)


def test_a_crop_shows_the_box_with_its_context():
    placement = Placement(0.5, 0.0, 10.0)
    crop = crop_pixels(frame(), placement, placement.from_frame(Box2D(200, 100, 240, 140)), size=64)
    assert crop.encoding == "jpeg"
    assert crop.area == Box2D(188, 88, 252, 152)  # 40 px and context is 60, grown to 64
    pixels = decode_image(crop.encoded).pixels
    assert pixels.shape == (64, 64, 3)
    assert pixels[32, 32, 0] > 220
    assert pixels[32, 32, 1] < 60
    assert pixels[4, 4].max() < 40
    large = crop_pixels(frame(), WHOLE, Box2D(100, 50, 300, 150), size=96)
    assert large.area == Box2D(50, 0, 350, 300)


def test_at_the_border_the_crop_moves_and_a_small_frame_is_shown_whole():
    corner = crop_pixels(frame(), WHOLE, Box2D(380, 290, 420, 310))
    assert corner.area == Box2D(336, 236, 400, 300)
    small = crop_pixels(Image(np.full((40, 50, 3), 9, np.uint8)), WHOLE, Box2D(5, 5, 45, 35))
    assert small.area == Box2D(0, 0, 50, 40)
    assert decode_image(small.encoded).pixels.shape == (96, 96, 3)


def test_a_box_outside_the_frame_has_no_crop():
    with pytest.raises(InputError, match="outside"):
        crop_pixels(frame(), WHOLE, Box2D(500, 10, 520, 30))


def test_quality_costs_bytes():
    noisy = Image(cv2.resize(np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8), (400, 300)))
    box = Box2D(100, 100, 200, 200)
    assert len(crop_pixels(noisy, WHOLE, box, quality=40).encoded) < len(crop_pixels(noisy, WHOLE, box).encoded)


position = st.floats(-300, 700, allow_nan=False)


@given(position, position, st.floats(0, 500), st.floats(0, 500), st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=80, deadline=None)
def test_every_box_in_the_frame_has_a_crop_inside_it(x, y, box_width, box_height, height, width):
    image = Image(np.zeros((height, width, 3), np.uint8))
    box = Box2D(x, y, x + box_width, y + box_height)
    try:
        crop = crop_pixels(image, WHOLE, box)
    except InputError:
        assert box.x2 <= 0 or box.y2 <= 0 or box.x1 >= width or box.y1 >= height
        return
    area = crop.area
    assert 0 <= area.x1 < area.x2 <= width
    assert 0 <= area.y1 < area.y2 <= height
