"""Evidence and verdicts survive the wire exactly, and nothing malformed gets through."""

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import EvidenceError, ProtocolError
from fusion.types import (
    Box2D,
    Box3D,
    CellWindow,
    DeviceOpinion,
    Evidence,
    FusedTokens,
    GatedMaps,
    ItemId,
    MapLayer,
    PixelCrop,
    PointCrop,
    SampleId,
    SendReason,
    SlotAnswer,
    SoundClip,
    SymbolCoding,
    Verdict,
)
from fusion.wire import limits
from fusion.wire.convert import (
    evidence_from_proto,
    evidence_to_proto,
    item_to_proto,
    parse_evidence,
    serialize_evidence,
    verdict_from_proto,
    verdict_to_proto,
)
from fusion.wire.lanes import crop_from_proto, crop_to_proto
from fusion.wire.rules import item_from_proto
from fusion.wire.v1 import perception_pb2 as pb

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,12}", fullmatch=True)
SCORES = st.floats(0, 1, width=32)
METRES = st.floats(-1000, 1000, width=32)
SIZES = st.floats(0, 100, width=32)
ITEMS = st.builds(
    ItemId,
    st.builds(
        SampleId,
        st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,10}", fullmatch=True),
        st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
        st.integers(1, (1 << 63) - 1),
    ),
    st.integers(1, 0xFFFF),
)


@st.composite
def boxes(draw):
    x1, x2 = sorted(draw(st.tuples(*[st.floats(-100, 2000, width=32)] * 2)))
    y1, y2 = sorted(draw(st.tuples(*[st.floats(-100, 2000, width=32)] * 2)))
    return Box2D(x1, y1, x2, y2)


@st.composite
def gated_maps(draw):
    windows = draw(st.lists(st.builds(CellWindow, *[st.integers(0, 20)] * 4), min_size=1, max_size=limits.MAX_LEVELS))
    gate = draw(
        st.binary(min_size=-(-sum(w.cells for w in windows) // 8), max_size=-(-sum(w.cells for w in windows) // 8))
    )
    layer = st.builds(MapLayer, st.binary(max_size=64), st.integers(0, 0xFFFFFFFF), st.sampled_from(SymbolCoding))
    if draw(st.booleans()):
        only = replace(draw(layer), coding=SymbolCoding.RANS)
        return GatedMaps(tuple(windows), gate, (only,), whole=True)
    layers = draw(st.lists(layer, min_size=1, max_size=limits.MAX_LAYERS))
    return GatedMaps(tuple(windows), gate, tuple(layers), draw(st.integers(0, limits.MAX_STEP_EXPONENT)))


@st.composite
def fused_tokens(draw):
    count, width = draw(st.integers(1, 9)), draw(st.integers(1, 8))
    data = draw(st.binary(min_size=count * width, max_size=count * width))
    scale = draw(st.floats(2.0**-20, 8, width=32))
    return FusedTokens(np.frombuffer(data, np.int8).reshape(count, width), scale)


CROPS = st.builds(PixelCrop, st.binary(min_size=1, max_size=64), st.sampled_from(["jpeg", "png", "webp"]), boxes())
POINTS = st.builds(
    PointCrop, st.tuples(METRES, METRES, METRES), st.floats(2.0**-13, 1, width=32), st.integers(1, 4096),
    st.binary(min_size=1, max_size=64),
)  # fmt: skip
SOUND = st.builds(
    SoundClip, st.just("wav-mulaw"), st.binary(min_size=1, max_size=64), st.integers(8000, 48_000),
    st.integers(-(1 << 62), 1 << 62),
)  # fmt: skip
EVIDENCE = st.builds(
    Evidence,
    item=ITEMS,
    task=NAMES,
    time_ns=st.integers(0, 1 << 62),
    track=st.integers(0, 1 << 40),
    profile=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    models=st.dictionaries(NAMES, st.from_regex(r"[a-z0-9][a-z0-9.+@-]{0,30}", fullmatch=True), max_size=4),
    box=boxes(),
    image_width=st.integers(1, 4096),
    image_height=st.integers(1, 4096),
    class_scores=st.dictionaries(NAMES, SCORES, max_size=8),
    opinion=st.builds(
        DeviceOpinion,
        st.dictionaries(NAMES, SCORES, max_size=4),
        st.dictionaries(NAMES, SCORES, max_size=4),
        st.none() | SCORES,
        st.none() | st.builds(Box3D, METRES, METRES, METRES, SIZES, SIZES, SIZES, st.floats(-4, 4, width=32)),
    ),
    reasons=st.lists(st.sampled_from(SendReason), unique=True).map(tuple),
    value=st.floats(-1000, 1000, width=32),
    ages_ns=st.dictionaries(NAMES, st.integers(0, 1 << 50), max_size=4),
    maps=st.none() | gated_maps(),
    tokens=st.none() | fused_tokens(),
    pixels=st.none() | CROPS,
    points=st.none() | POINTS,
    sound=st.none() | SOUND,
)


@st.composite
def verdicts(draw):
    slots = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        options = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
        weights = np.array(draw(st.lists(st.integers(1, 1000), min_size=len(options), max_size=len(options))), float)
        shares = (weights / weights.sum()).astype(np.float32)
        slots[name] = SlotAnswer(draw(st.sampled_from(options)), dict(zip(options, map(float, shares), strict=True)))
    lanes = tuple(draw(st.lists(st.sampled_from(["maps", "tokens", "pixels"]), unique=True)))
    return Verdict(draw(ITEMS), slots, draw(st.booleans()), lanes, "reviewer-mini/yard@0123", "ab" * 32)


def parts(evidence: Evidence) -> tuple:
    """Everything of the evidence as values that compare."""
    tokens = evidence.tokens and (evidence.tokens.values.tolist(), evidence.tokens.scale)
    return (*(getattr(evidence, name) for name in Evidence.__dataclass_fields__ if name != "tokens"), tokens)


@given(EVIDENCE)
@settings(max_examples=80, deadline=None)
def test_evidence_comes_back_as_it_went(evidence):
    blob = serialize_evidence(evidence)
    assert parts(parse_evidence(blob)) == parts(evidence)
    assert serialize_evidence(parse_evidence(blob)) == blob


@given(verdicts())
@settings(max_examples=80, deadline=None)
def test_verdicts_come_back_as_they_went(verdict):
    assert verdict_from_proto(pb.Verdict.FromString(verdict_to_proto(verdict).SerializeToString())) == verdict


@given(CROPS, ITEMS)
@settings(max_examples=30, deadline=None)
def test_crops_and_items_come_back_as_they_went(crop, item):
    assert crop_from_proto(crop_to_proto(crop, item), item) == crop
    assert item_from_proto(item_to_proto(item)) == item


@given(EVIDENCE, st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_damaged_bytes_are_read_or_refused_but_never_fail(evidence, place, damage):
    blob = bytearray(serialize_evidence(evidence))
    place %= len(blob)
    blob[place : place + len(damage)] = damage
    with contextlib.suppress(EvidenceError):
        parse_evidence(bytes(blob))


def evidence(**changes) -> Evidence:
    window = CellWindow(3, 2, 4, 2)
    given_parts = {
        "item": ItemId(SampleId("cart-1", "00ff" * 4, 7), 2),
        "task": "yard",
        "time_ns": 5,
        "track": 1,
        "profile": "ab" * 32,
        "models": {"fusion": "0123"},
        "box": Box2D(1, 2, 30, 40),
        "image_width": 640,
        "image_height": 384,
        "class_scores": {"drum": 0.5},
        "opinion": DeviceOpinion(),
        "reasons": (SendReason.UNCERTAIN,),
        "value": 0.5,
        "ages_ns": {"front": 0},
        "maps": GatedMaps((window,), b"\xff", (MapLayer(b"\x00" * 8, 1),) * 2, 1),
        "tokens": FusedTokens(np.zeros((2, 3), np.int8), 0.5),
        "pixels": PixelCrop(b"x", "jpeg", Box2D(0, 0, 9, 9)),
    }
    return Evidence(**(given_parts | changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"box": Box2D(0, 0, math.nan, 1)}, "box.x2"),
        ({"box": Box2D(5, 0, 1, 1)}, "box"),
        ({"class_scores": {"drum": 1.5}}, "class_scores[drum]"),
        ({"class_scores": {"drum": 1e300}}, "class_scores[drum]"),
        ({"value": math.inf}, "value"),
        ({"task": ""}, "task"),
        ({"profile": "a b"}, "profile"),
        ({"image_width": 0}, "image_width"),
        ({"reasons": (SendReason.AUDIT,) * 2}, "reasons"),
        ({"ages_ns": {"front": -1}}, "ages_ns[front]"),
        ({"opinion": DeviceOpinion(label_scores={"drum": math.nan})}, "opinion.label_scores[drum]"),
        ({"opinion": DeviceOpinion(box3d=Box3D(0, 0, 0, -1, 1, 1, 0))}, "opinion.box3d.length"),
        ({"maps": GatedMaps((), b"", (MapLayer(b"", 0),))}, "maps.windows"),
        ({"maps": GatedMaps((CellWindow(0, 0, 9, 9),), b"\xff", (MapLayer(b"", 0),))}, "maps.gate"),
        ({"maps": GatedMaps((CellWindow(0, 0, 9000, 9000),), b"", (MapLayer(b"", 0),))}, "maps.windows cells"),
        ({"maps": GatedMaps((CellWindow(0, 0, 1, 1),), b"\x80", ())}, "maps.symbols"),
        ({"maps": GatedMaps((CellWindow(0, 0, 1, 1),), b"\x80", (MapLayer(b"", 0),) * 9)}, "maps.layers"),
        ({"maps": GatedMaps((CellWindow(0, 0, 1, 1),), b"\x80", (MapLayer(b"", 0),), 8)}, "maps.step_exponent"),
        ({"tokens": FusedTokens(np.zeros((2, 3), np.int8), math.nan)}, "tokens.scale"),
        ({"tokens": FusedTokens(np.zeros((2, 3), np.int8), 0.0)}, "tokens.scale"),
        ({"tokens": FusedTokens(np.zeros((limits.MAX_TOKENS + 1, 1), np.int8), 1.0)}, "tokens.shape[0]"),
        ({"pixels": PixelCrop(b"x", "bmp", Box2D(0, 0, 1, 1))}, "pixels.encoding"),
        ({"pixels": PixelCrop(b"", "png", Box2D(0, 0, 1, 1))}, "pixels.encoded"),
        ({"models": {f"m{i}": "1" for i in range(limits.MAX_MODELS + 1)}}, "models"),
    ],
)
def test_a_bad_field_is_refused_by_name_before_it_is_sent(changes, field):
    with pytest.raises(EvidenceError) as error:
        evidence_to_proto(evidence(**changes))
    assert f"'{field}'" in str(error.value)
    assert "cart-1/00ff00ff00ff00ff/7#2" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"track": -1},
        {"tokens": FusedTokens(np.zeros((2, 3), np.float32), 1.0)},
        {"tokens": FusedTokens(np.zeros(6, np.int8), 1.0)},
        {"time_ns": 1 << 70},
    ],
)
def test_what_protobuf_cannot_hold_is_refused(changes):
    with pytest.raises(EvidenceError, match="cart-1"):
        evidence_to_proto(evidence(**changes))


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda m: m.reasons.append(77), "reasons"),
        (lambda m: m.ClearField("box"), "box"),
        (lambda m: setattr(m.tokens, "dtype", pb.DTYPE_FLOAT32), "tokens"),
        (lambda m: m.tokens.shape.append(2), "tokens.shape"),
        (lambda m: setattr(m.tokens, "data", b"\0"), "tokens.data"),
        (lambda m: setattr(m.maps.layers[1], "codec", pb.CODEC_RAW), "maps.layers.codec"),
        (lambda m: m.maps.symbols.shape.append(1 << 30), "maps.symbols"),
        (lambda m: setattr(m.maps, "crc32", 1), "maps.symbols"),
        (lambda m: m.pixels.ClearField("area"), "pixels.area"),
        (lambda m: m.maps.windows.extend([pb.CellWindow()] * 1000), "maps.windows"),
        (lambda m: setattr(m.item.sample, "device", "../../etc"), "item"),
        (lambda m: setattr(m.item, "item", 0), "item"),
    ],
)
def test_a_bad_field_is_refused_by_name_when_received(spoil, field):
    message = evidence_to_proto(evidence())
    spoil(message)
    with pytest.raises(EvidenceError) as error:
        evidence_from_proto(message)
    assert f"'{field}'" in str(error.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: setattr(m.maps.symbols, "codec", pb.CODEC_RAW),
        lambda m: m.maps.symbols.shape.append(1 << 30),
        lambda m: m.maps.ClearField("symbols"),
        lambda m: setattr(m.maps, "step_exponent", 3),
    ],
)
def test_bad_symbols_of_a_device_that_knows_no_layers_are_refused(spoil):
    before = GatedMaps((CellWindow(1, 1, 4, 2),), b"\xff", (MapLayer(b"\0" * 8, 1),), whole=True)
    message = evidence_to_proto(evidence(maps=before))
    assert not message.maps.layers
    spoil(message)
    with pytest.raises(EvidenceError, match=r"'maps\.(symbols|step_exponent)'"):
        evidence_from_proto(message)


def test_evidence_over_the_cap_is_refused():
    big = evidence(maps=GatedMaps((CellWindow(0, 0, 1, 1),), b"\x80", (MapLayer(bytes(limits.MAX_EVIDENCE_BYTES), 0),)))
    with pytest.raises(EvidenceError, match="over the cap"):
        evidence_to_proto(big)
    with pytest.raises(EvidenceError, match="over the cap"):
        parse_evidence(bytes(limits.MAX_EVIDENCE_BYTES + 1))


def test_garbage_is_refused():
    with pytest.raises(EvidenceError):
        parse_evidence(b"\xff" * 100)


@pytest.mark.parametrize(
    "probabilities",
    [{"a": 0.5, "b": 0.4}, {"a": math.nan, "b": 1.0}, {"b": 1.0}, {"a": 1.7, "b": -0.7}],
)
def test_a_verdict_without_probabilities_is_refused(probabilities):
    item = ItemId(SampleId("cart-1", "0" * 16, 1), 1)
    verdict = Verdict(item, {"object": SlotAnswer("a", probabilities)}, False, ("maps",), "fixed:yard", "ab")
    with pytest.raises(ProtocolError, match=r"slots\[object\]"):
        verdict_to_proto(verdict)
