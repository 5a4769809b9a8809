import hashlib
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.codec import MAX_OPEN_CELLS, Profile, decode_maps, encode_maps, item_gate, unpack_gates
from fusion.codec.evidence import _checksum
from fusion.codec.synthetic import synthetic_maps, synthetic_profile
from fusion.errors import EvidenceError, ModelError
from fusion.types import Box2D, CellWindow, GatedMaps

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


@given(gated_inputs())
@settings(max_examples=150, deadline=None)
def test_what_is_open_comes_back_and_what_is_closed_is_zero(inputs):
    maps, windows, gates = inputs
    gated = encode_maps(SMALL, maps, windows, gates)
    decoded = decode_maps(SMALL, gated)
    for level, whole, window, gate, found in zip(SMALL.levels, maps, windows, gates, decoded, strict=True):
        inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width]
        assert found.dtype == np.int8
        assert np.array_equal(found, np.where(gate, np.clip(inside, -level.clip, level.clip), 0))
    for gate, found in zip(gates, unpack_gates(SMALL, gated), strict=True):
        assert np.array_equal(gate, found)


def example(profile: Profile = SMALL) -> GatedMaps:
    windows, gates = item_gate(profile, Box2D(10, 12, 60, 50), None)
    return encode_maps(profile, synthetic_maps(profile, 3), windows, gates)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_evidence_is_refused_or_unchanged(data):
    good = example()
    field = data.draw(st.sampled_from(["gate", "symbols", "crc32", "windows"]))
    if field == "crc32":
        bad = replace(good, crc32=data.draw(st.integers(0, 2**32 - 1)))
    elif field == "windows":
        number = st.integers(-3, 40) | st.integers(-(2**40), 2**40)
        windows = [CellWindow(*data.draw(st.tuples(number, number, number, number))) for _ in good.windows]
        bad = replace(good, windows=tuple(windows))
    else:
        content: bytes = getattr(good, field)
        cut = content[: data.draw(st.integers(0, len(content)))]
        flipped = bytearray(content)
        flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        noise = data.draw(st.binary(max_size=200))
        bad = replace(good, **{field: data.draw(st.sampled_from([cut, bytes(flipped), noise, content + noise]))})
    try:
        decoded = decode_maps(SMALL, bad)
    except EvidenceError:
        return
    assert all(np.array_equal(a, b) for a, b in zip(decoded, decode_maps(SMALL, good), strict=True))


@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=3, max_size=3), st.binary(max_size=60), st.data())
@settings(max_examples=200, deadline=None)
def test_bytes_with_a_right_checksum_decode_or_are_refused(sizes, symbols, data):
    windows = tuple(CellWindow(*size) for size in sizes)
    cells = sum(w.cells for w in windows)
    gate = data.draw(st.binary(min_size=(cells + 7) // 8, max_size=(cells + 7) // 8))
    forged = GatedMaps(windows, gate, symbols, _checksum(windows, gate, symbols))
    try:
        decoded = decode_maps(SMALL, forged)
    except EvidenceError:
        return
    for level, window, codes in zip(SMALL.levels, windows, decoded, strict=True):
        assert codes.shape == (level.channels, window.height, window.width)
        assert np.abs(codes.astype(int)).max(initial=0) <= level.clip


def test_the_bytes_never_change(small_profile):
    gated = example(small_profile)
    content = repr(gated.windows).encode() + gated.gate + gated.symbols + gated.crc32.to_bytes(4, "little")
    assert small_profile.sha256 == "f94ddadac64ed4039cbbd4d914d274e146c2151521356c22ed00e7f6ef335475"
    assert hashlib.sha256(content).hexdigest() == "9ace4a2bf3673b75ce9de8d2b25af784647eecc99e1367950e4de945580f4a30"


def test_an_item_without_an_open_cell_costs_no_symbols(profile):
    windows = (CellWindow(0, 0, 0, 0),) * 3
    gates = [np.zeros((0, 0), bool)] * 3
    gated = encode_maps(profile, synthetic_maps(profile), windows, gates)
    assert gated.byte_size == 0
    assert [m.shape for m in decode_maps(profile, gated)] == [(24, 0, 0), (32, 0, 0), (32, 0, 0)]
    closed = encode_maps(profile, synthetic_maps(profile), (CellWindow(1, 2, 5, 4),) * 3, [np.zeros((4, 5), bool)] * 3)
    assert closed.symbols == b""
    assert all(not m.any() for m in decode_maps(profile, closed))


def test_too_many_open_cells_are_refused_before_anything_is_decoded():
    huge = synthetic_profile(image_width=4096, image_height=4096)
    windows = tuple(CellWindow(0, 0, w, h) for h, w in (huge.map_size(i) for i in range(3)))
    gate = b"\xff" * (sum(w.cells for w in windows) // 8)
    forged = GatedMaps(windows, gate, b"", _checksum(windows, gate, b""))
    tracemalloc.start()
    with pytest.raises(EvidenceError, match=str(MAX_OPEN_CELLS)):
        decode_maps(huge, forged)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # the maps alone would be 8 MiB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": (CellWindow(0, 0, 2, 2),) * 2}, "2 levels"),
        ({"windows": (CellWindow(11, 0, 2, 2),) * 3}, "leaves the 12x8 cells of p3"),
        ({"gate": b"\xff" * 40}, "a gate of 40 bytes"),
        ({"symbols": b"\1" * 4000}, "more than"),
        ({"crc32": 1}, "damaged"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(EvidenceError, match=message):
        decode_maps(SMALL, replace(example(), **change))


def test_bits_beyond_the_gate_are_refused():
    windows = (CellWindow(0, 0, 1, 1), CellWindow(0, 0, 0, 0), CellWindow(0, 0, 0, 0))
    with pytest.raises(EvidenceError, match="beyond"):
        decode_maps(SMALL, GatedMaps(windows, b"\x01", b"", _checksum(windows, b"\x01", b"")))


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
