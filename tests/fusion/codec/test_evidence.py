import base64
import hashlib
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion.codec.evidence as codec
from fusion.codec import LAYERS, MAX_OPEN_CELLS, Profile, decode_maps, encode_maps, item_gate, unpack_gates
from fusion.codec.evidence import layer_checksum
from fusion.codec.layers import layer_parts
from fusion.codec.synthetic import synthetic_maps, synthetic_profile
from fusion.errors import EvidenceError, ModelError
from fusion.types import Box2D, CellWindow, GatedMaps, MapLayer, SymbolCoding
from fusion.wire.v1 import perception_pb2 as pb

SMALL = synthetic_profile(image_width=96, image_height=64, channels=(3, 4, 5), clip=7)


@st.composite
def gated_inputs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    windows, gates, maps = [], [], []
    for index, level in enumerate(SMALL.levels):
        height, width = SMALL.map_size(index)
        x, y = draw(st.integers(0, width)), draw(st.integers(0, height))
        window = CellWindow(x, y, draw(st.integers(0, width - x)), draw(st.integers(0, height - y)))
        windows.append(window)
        gates.append(rng.random((window.height, window.width)) < draw(st.sampled_from([0.0, 0.3, 1.0])))
        maps.append(rng.integers(-128, 128, (level.channels, height, width)).astype(np.int8))
    return maps, tuple(windows), gates


@given(gated_inputs(), st.integers(0, 3), st.integers(1, LAYERS), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_is_open_comes_back_in_its_steps_and_what_is_closed_is_zero(inputs, exponent, layers, by_zstd):
    maps, windows, gates = inputs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "HAS_RANS", not by_zstd)
        gated = encode_maps(SMALL, maps, windows, gates, step_exponent=exponent, layers=layers)
    decoded = decode_maps(SMALL, gated)
    sent = np.zeros((len(SMALL.levels), 8), bool)
    for parts in layer_parts(SMALL)[:layers]:
        for part in parts:
            sent[part.level, part.start : part.stop] = True
    for index, (level, whole, window, gate) in enumerate(zip(SMALL.levels, maps, windows, gates, strict=True)):
        inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width]
        open_ = gate & sent[index, : level.channels, None, None]
        off = np.abs(decoded[index].astype(int) - np.clip(inside.astype(int), -level.clip, level.clip))
        assert decoded[index].dtype == np.int8
        assert (decoded[index][~open_] == 0).all()
        assert off[open_].max(initial=0) <= (1 << exponent) // 2
        assert (np.sign(decoded[index]) * np.sign(inside) >= 0)[open_].all()
    for gate, found in zip(gates, unpack_gates(SMALL, gated), strict=True):
        assert np.array_equal(gate, found)


@given(gated_inputs(), st.integers(0, 3), st.integers(1, LAYERS))
@settings(max_examples=100, deadline=None)
def test_the_first_layers_are_what_would_have_been_sent_without_the_others(inputs, exponent, layers):
    maps, windows, gates = inputs
    everything = encode_maps(SMALL, maps, windows, gates, step_exponent=exponent)
    few = encode_maps(SMALL, maps, windows, gates, step_exponent=exponent, layers=layers)
    assert everything.first(layers) == few


def test_each_layer_and_each_step_costs_less(profile):
    windows, gates = item_gate(profile, Box2D(200, 100, 304, 252), None)
    maps = synthetic_maps(profile)
    sizes = [[encode_maps(profile, maps, windows, gates, step_exponent=q).first(n).byte_size for n in (1, 2, 3)]
             for q in range(4)]  # fmt: skip
    for row in (*sizes, *zip(*reversed(sizes), strict=True)):
        assert list(row) == sorted(set(row))


def example(profile: Profile = SMALL) -> GatedMaps:
    windows, gates = item_gate(profile, Box2D(10, 12, 60, 50), None)
    return encode_maps(profile, synthetic_maps(profile, 3), windows, gates)


def with_layer(gated: GatedMaps, number: int, layer: MapLayer) -> GatedMaps:
    return replace(gated, layers=(*gated.layers[:number], layer, *gated.layers[number + 1 :]))


def forged(windows, gate: bytes, symbols, *, coding=SymbolCoding.RANS, exponent: int = 0) -> GatedMaps:
    """Maps whose checksums are right, whatever is in them."""
    gated = GatedMaps(tuple(windows), gate, tuple(MapLayer(data, 0, coding) for data in symbols), exponent)
    return replace(gated, layers=tuple(replace(v, crc32=layer_checksum(gated, n)) for n, v in enumerate(gated.layers)))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_evidence_is_refused_or_unchanged(data):
    good = example()
    field = data.draw(st.sampled_from(["gate", "symbols", "crc32", "windows", "order", "steps"]))
    number = data.draw(st.integers(0, LAYERS - 1))
    if field == "crc32":
        bad = with_layer(good, number, replace(good.layers[number], crc32=data.draw(st.integers(0, 2**32 - 1))))
    elif field == "steps":
        bad = replace(good, step_exponent=data.draw(st.integers(-1, 9)))
    elif field == "order":
        bad = replace(good, layers=tuple(data.draw(st.permutations(good.layers))))
    elif field == "windows":
        side = st.integers(-3, 40) | st.integers(-(2**40), 2**40)
        windows = [CellWindow(*data.draw(st.tuples(side, side, side, side))) for _ in good.windows]
        bad = replace(good, windows=tuple(windows))
    else:
        content = good.gate if field == "gate" else good.layers[number].symbols
        cut = content[: data.draw(st.integers(0, len(content)))]
        flipped = bytearray(content)
        flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        noise = data.draw(st.binary(max_size=200))
        damaged = data.draw(st.sampled_from([cut, bytes(flipped), noise, content + noise]))
        layer = replace(good.layers[number], symbols=damaged)
        bad = replace(good, gate=damaged) if field == "gate" else with_layer(good, number, layer)
    try:
        decoded = decode_maps(SMALL, bad)
    except EvidenceError:
        return
    assert all(np.array_equal(a, b) for a, b in zip(decoded, decode_maps(SMALL, good), strict=True))


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=3, max_size=3),
    st.lists(st.binary(max_size=60), min_size=1, max_size=LAYERS),
    st.sampled_from(SymbolCoding),
    st.integers(0, 4),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_bytes_with_a_right_checksum_decode_or_are_refused(sizes, symbols, coding, exponent, data):
    windows = tuple(CellWindow(*size) for size in sizes)
    cells = sum(w.cells for w in windows)
    gate = data.draw(st.binary(min_size=(cells + 7) // 8, max_size=(cells + 7) // 8))
    try:
        decoded = decode_maps(SMALL, forged(windows, gate, symbols, coding=coding, exponent=exponent))
    except EvidenceError:
        return
    for level, window, codes in zip(SMALL.levels, windows, decoded, strict=True):
        assert codes.shape == (level.channels, window.height, window.width)
        assert np.abs(codes.astype(int)).max(initial=0) <= level.clip


def test_the_bytes_never_change(small_profile):
    assert small_profile.sha256 == "f94ddadac64ed4039cbbd4d914d274e146c2151521356c22ed00e7f6ef335475"
    digests = []
    for exponent in range(3):
        windows, gates = item_gate(small_profile, Box2D(10, 12, 60, 50), None)
        gated = encode_maps(small_profile, synthetic_maps(small_profile, 3), windows, gates, step_exponent=exponent)
        content = repr(gated.windows).encode() + gated.gate
        for layer in gated.layers:
            content += layer.symbols + layer.crc32.to_bytes(4, "little")
        digests.append(hashlib.sha256(content).hexdigest()[:16])
    assert digests == ["7aed816259d4a2b7", "b0f59ca74ad51219", "7ad3ed3bd87ff97a"]


BEFORE_LAYERS = (
    "3IrGlAP5Qs7zH2%3IrGfAOaE%|NsC0|NsC0|NsC0z#38r0U!b@ObR>YR-s0y>LEz)CqM{XPlvA>)<Gk%_)%67{9z^R=Qe$@6#Zu*mPbyKg@;I&"
    "iV9t#sH@@%^wCpB4hw=N^nHr32*iQTEV&~9040t%JT("
)


def test_what_devices_sent_before_there_were_layers_is_read():
    windows, _ = item_gate(SMALL, Box2D(10, 12, 60, 50), None)
    message = pb.GatedMaps.FromString(base64.b85decode(BEFORE_LAYERS))
    old = GatedMaps(windows, message.gate, (MapLayer(message.symbols.data, message.crc32),), whole=True)
    assert [(w.x, w.y, w.width, w.height) for w in message.windows] == [(w.x, w.y, w.width, w.height) for w in windows]
    for found, new in zip(decode_maps(SMALL, old), decode_maps(SMALL, example()), strict=True):
        assert np.array_equal(found, new)
    with pytest.raises(EvidenceError, match="damaged"):
        decode_maps(SMALL, replace(old, layers=(replace(old.layers[0], crc32=1),)))


def zstd_frames(needed: int) -> dict[str, bytes]:
    """Frames that are not `needed` symbols within the clip."""
    strong, silent = zstandard.ZstdCompressor(19), zstandard.ZstdCompressor(19, write_content_size=False)
    good = strong.compress(bytes(needed))
    run = (1 | 1 << 1 | needed << 3).to_bytes(3, "little") + b"\0"  # the last block: a zero repeated
    wide = good[:4] + b"\x80\x80" + needed.to_bytes(4, "little") + run  # asks for a window of 64 MiB
    bomb = strong.compress(bytes(4 << 20))
    told = bomb.index((4 << 20).to_bytes(4, "little"))
    return {
        "nothing": b"",
        "zeros": bytes(8),
        "bomb": bomb,
        "bomb that says it is small": bomb[:told] + needed.to_bytes(4, "little") + bomb[told + 4 :],
        "bomb that says nothing": silent.compress(bytes(1 << 20)),
        "one too many": strong.compress(bytes(needed + 1)),
        "beyond the clip": strong.compress(b"\x7f" * needed),
        "two frames": good + good,
        "junk behind": good + b"\0junk",
        "skippable first": b"\x50\x2a\x4d\x18" + needed.to_bytes(4, "little") + good,
        "wide window": wide,
        "cut": strong.compress(np.random.default_rng(0).integers(-3, 4, needed).astype(np.int8).tobytes())[:-3],
    }


@pytest.mark.parametrize("name", zstd_frames(100))
def test_a_zstd_frame_that_is_not_the_symbols_is_refused_in_bounds(name):
    windows, gate = (CellWindow(0, 0, 3, 3), CellWindow(0, 0, 6, 4), CellWindow(0, 0, 3, 2)), b"\xff" * 4 + b"\xfe"
    needed = (4 * 24) + (5 * 6)
    evil = forged(windows, gate, [zstd_frames(needed)[name]], coding=SymbolCoding.ZSTD)
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceError, match=r"zstd|clip"):
            decode_maps(SMALL, evil)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_item_without_an_open_cell_costs_no_symbols(profile):
    windows = (CellWindow(0, 0, 0, 0),) * 3
    gates = [np.zeros((0, 0), bool)] * 3
    gated = encode_maps(profile, synthetic_maps(profile), windows, gates)
    assert gated.byte_size == 0
    assert [m.shape for m in decode_maps(profile, gated)] == [(24, 0, 0), (32, 0, 0), (32, 0, 0)]
    closed = encode_maps(profile, synthetic_maps(profile), (CellWindow(1, 2, 5, 4),) * 3, [np.zeros((4, 5), bool)] * 3)
    assert all(layer.symbols == b"" for layer in closed.layers)
    assert all(not m.any() for m in decode_maps(profile, closed))


def test_too_many_open_cells_are_refused_before_anything_is_decoded():
    huge = synthetic_profile(image_width=4096, image_height=4096)
    windows = tuple(CellWindow(0, 0, w, h) for h, w in (huge.map_size(i) for i in range(3)))
    gate = b"\xff" * (sum(w.cells for w in windows) // 8)
    big = forged(windows, gate, [b""])
    tracemalloc.start()
    with pytest.raises(EvidenceError, match=str(MAX_OPEN_CELLS)):
        decode_maps(huge, big)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # the maps alone would be 8 MiB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": (CellWindow(0, 0, 2, 2),) * 2}, "2 levels"),
        ({"windows": (CellWindow(11, 0, 2, 2),) * 3}, "leaves the 12x8 cells of p3"),
        ({"gate": b"\xff" * 40}, "a gate of 40 bytes"),
        ({"layers": ()}, "0 layers"),
        ({"layers": (MapLayer(b"", 0),) * 4}, "4 layers"),
        ({"layers": (MapLayer(b"\1" * 4000, 0),)}, "more than"),
        ({"layers": (MapLayer(b"", 1),)}, "damaged"),
        ({"step_exponent": 4}, r"steps of 2\^4; .* 2\^0 to 2\^3"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(EvidenceError, match=message):
        decode_maps(SMALL, replace(example(), **change))


def test_bits_beyond_the_gate_are_refused():
    windows = (CellWindow(0, 0, 1, 1), CellWindow(0, 0, 0, 0), CellWindow(0, 0, 0, 0))
    with pytest.raises(EvidenceError, match="beyond"):
        decode_maps(SMALL, forged(windows, b"\x01", [b""]))


def test_maps_of_another_trunk_are_named(profile):
    windows, gates = item_gate(profile, Box2D(10, 10, 60, 60), None)
    with pytest.raises(ModelError, match="map p3 is int8"):
        encode_maps(profile, synthetic_maps(SMALL), windows, gates)
    with pytest.raises(EvidenceError, match="a gate of shape"):
        encode_maps(profile, synthetic_maps(profile), windows, [g[1:] for g in gates])


def test_a_typical_item_is_small_and_quick(profile):
    box = Box2D(200, 100, 304, 252)  # 13 x 19 cells of the finest level
    scores = [np.zeros(profile.map_size(i), np.float32) for i in range(3)]
    windows, gates = item_gate(profile, box, scores)
    maps = synthetic_maps(profile)
    gated = encode_maps(profile, maps, windows, gates)
    assert gated.byte_size < 3000
    encode, decode = [], []
    for _ in range(15):
        started = time.perf_counter()
        encode_maps(profile, maps, windows, gates)
        middle = time.perf_counter()
        decode_maps(profile, gated)
        encode.append(middle - started)
        decode.append(time.perf_counter() - middle)
    assert min(encode) < 3e-3
    assert min(decode) < 4e-3


def test_a_window_that_moved_on_the_way_is_noticed():
    good = example()
    first = good.windows[0]
    moved = replace(good, windows=(replace(first, x=first.x + 1), *good.windows[1:]))
    with pytest.raises(EvidenceError, match="damaged"):
        decode_maps(SMALL, moved)
