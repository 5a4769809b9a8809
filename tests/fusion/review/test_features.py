"""Evidence → arrays: where samples are taken, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.codec import Profile, encode_maps, item_gate
from fusion.errors import EvidenceError
from fusion.review.features import extract_features, region, sample_maps
from fusion.review.layout import FeatureLayout
from fusion.review.synthetic import synthetic_evidence, synthetic_layout
from fusion.task import Task
from fusion.types import Box2D, Box3D, DeviceOpinion, Evidence, FusedTokens


@pytest.fixture(scope="module")
def layout(yard: Task, profile: Profile) -> FeatureLayout:
    return synthetic_layout(yard, profile)


@pytest.fixture(scope="module")
def evidence(yard: Task, profile: Profile) -> Evidence:
    return synthetic_evidence(yard, profile, 5, pixels=True)[0]


def ramps(profile: Profile) -> list[np.ndarray]:
    """Codes that tell their own cell: the column in channel 0, the row in channel 1, limited to the clip."""
    maps = []
    for index, level in enumerate(profile.levels):
        height, width = profile.map_size(index)
        codes = np.zeros((level.channels, height, width), np.int8)
        codes[0] = np.clip(np.arange(width) - width // 2, -level.clip, level.clip)
        codes[1] = np.clip(np.arange(height)[:, None] - height // 2, -level.clip, level.clip)
        maps.append(codes)
    return maps


@settings(max_examples=40, deadline=None)
@given(x=st.floats(250, 390), y=st.floats(150, 230), width=st.floats(20, 160), height=st.floats(20, 150))
def test_samples_lie_where_the_box_is(
    profile: Profile, layout: FeatureLayout, x: float, y: float, width: float, height: float
) -> None:
    """On a linear ramp the filter returns the ramp itself, within a quarter cell, away from the window's border."""
    box = Box2D(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    windows, gates = item_gate(profile, box, None, margin=1.0)
    gates = [np.ones_like(gate) for gate in gates]
    maps = sample_maps(encode_maps(profile, ramps(profile), windows, gates), box, profile, layout)
    area = region(box, layout)
    for index, (level, sampled) in enumerate(zip(profile.levels, maps, strict=True)):
        bins, (rows, columns) = len(sampled), profile.map_size(index)
        middle = slice(bins // 4, bins - bins // 4)
        at = area.x1 + (np.arange(bins) + 0.5) * (area.x2 - area.x1) / bins
        expected = (at / level.stride - 0.5 - columns // 2) * level.step[0]
        np.testing.assert_allclose(sampled[0 + bins // 2, middle, 0], expected[middle], atol=0.25 * level.step[0])
        at = area.y1 + (np.arange(bins) + 0.5) * (area.y2 - area.y1) / bins
        expected = (at / level.stride - 0.5 - rows // 2) * level.step[1]
        np.testing.assert_allclose(sampled[middle, bins // 2, 1], expected[middle], atol=0.25 * level.step[1])
        np.testing.assert_allclose(sampled[middle, middle, -1], 1.0, atol=0.1)


def test_outside_the_image_there_is_nothing(profile: Profile, layout: FeatureLayout) -> None:
    box = Box2D(0, 0, 60, 60)
    windows, gates = item_gate(profile, box, None)
    fine = sample_maps(encode_maps(profile, ramps(profile), windows, gates), box, profile, layout)[0]
    assert not fine[0, 0].any()
    assert fine[-2, -2, -1] == pytest.approx(1.0, abs=0.2)


def test_closed_cells_are_told_apart_from_zeros(profile: Profile, layout: FeatureLayout) -> None:
    box = Box2D(200, 100, 280, 180)
    windows, gates = item_gate(profile, box, None)
    blank = [np.zeros_like(m) for m in ramps(profile)]
    opened = sample_maps(encode_maps(profile, blank, windows, gates), box, profile, layout)
    shut = sample_maps(encode_maps(profile, blank, windows, [np.zeros_like(g) for g in gates]), box, profile, layout)
    assert opened[0][..., -1].mean() > 0.9
    assert not shut[0].any()


def test_every_lane_has_its_shape(evidence: Evidence, profile: Profile, layout: FeatureLayout) -> None:
    features = extract_features(evidence, profile, layout)
    assert tuple(m.shape for m in features.maps) == layout.map_shapes
    assert features.tokens.shape == (9, 96)
    assert features.crop.shape == (96, 96, 3)
    assert features.opinion.shape == (layout.opinion_width,)
    assert layout.map_token_width * layout.map_tokens == sum(m.size for m in features.maps)
    bare = extract_features(replace(evidence, maps=None, tokens=None, pixels=None), profile, layout)
    assert (bare.maps, bare.tokens, bare.crop) == (None, None, None)


def test_the_heads_slice_holds_the_heads(evidence: Evidence, profile: Profile, layout: FeatureLayout) -> None:
    said = extract_features(evidence, profile, layout).opinion
    silent = extract_features(
        replace(evidence, opinion=DeviceOpinion(box3d=evidence.opinion.box3d)), profile, layout
    ).opinion
    changed = np.flatnonzero(said != silent)
    assert layout.heads.start <= changed.min()
    assert changed.max() < layout.heads.stop


BAD = {
    "its image is": lambda e: replace(e, image_width=320),
    "its box .* is empty": lambda e: replace(e, box=Box2D(10, 10, 10, 40)),
    "its box": lambda e: replace(e, box=Box2D(float("nan"), 10, 20, 40)),
    "its box .* outside": lambda e: replace(e, box=Box2D(1e9, 10, 2e9, 40)),
    "class score of 'cat'": lambda e: replace(e, class_scores={"cat": 0.5}),
    "class score is not a probability": lambda e: replace(e, class_scores={"drum": float("nan")}),
    "label score is not a probability": lambda e: replace(e, opinion=replace(e.opinion, label_scores={"drum": 1.5})),
    "asked-for score is not": lambda e: replace(e, opinion=replace(e.opinion, asked_score=float("inf"))),
    "3-D box holds": lambda e: replace(e, opinion=replace(e.opinion, box3d=Box3D(float("nan"), 0, 0, 1, 1, 1, 0))),
    "age of sensor 'nose'": lambda e: replace(e, ages_ns={"nose": 1}),
    "fused tokens of shape": lambda e: replace(e, tokens=FusedTokens(np.zeros((9, 95), np.int8), 1.0)),
    "fused tokens of shape .10": lambda e: replace(e, tokens=FusedTokens(np.zeros((10, 96), np.int8), 1.0)),
    "fused tokens of shape .0": lambda e: replace(e, tokens=FusedTokens(np.zeros((0, 96), np.int8), 1.0)),
    "scale nan": lambda e: replace(e, tokens=FusedTokens(np.ones((9, 96), np.int8), float("nan"))),
    "checksum": lambda e: replace(e, maps=replace(e.maps, layers=(replace(e.maps.layers[0], crc32=0),))),
    "crop has": lambda e: replace(e, pixels=replace(e.pixels, encoded=b"\xff\xd8" + bytes(70_000))),
    "crop cannot be read": lambda e: replace(e, pixels=replace(e.pixels, encoded=e.pixels.encoded[:200])),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_evidence_is_refused_in_one_line(
    evidence: Evidence, profile: Profile, layout: FeatureLayout, message: str
) -> None:
    with pytest.raises(EvidenceError, match=message) as error:
        extract_features(BAD[message](evidence), profile, layout)
    assert "\n" not in str(error.value)


def test_a_giant_picture_is_refused_before_it_is_decoded(
    evidence: Evidence, profile: Profile, layout: FeatureLayout
) -> None:
    import cv2

    _, encoded = cv2.imencode(".png", np.zeros((4000, 4000, 3), np.uint8))
    giant = replace(evidence, pixels=replace(evidence.pixels, encoded=encoded.tobytes()))
    assert len(encoded) < 64 * 1024
    with pytest.raises(EvidenceError, match="4000x4000"):
        extract_features(giant, profile, layout)
