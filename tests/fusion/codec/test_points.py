"""The `points` lane: what goes in comes out within half a step, and bytes do nothing but that or `EvidenceError`."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fusion.codec.points import MAX_POINTS, decode_points, encode_points
from fusion.errors import EvidenceError, InputError
from fusion.types import PointCrop

COORDINATES = st.tuples(*[st.floats(-300, 300, allow_nan=False, width=32)] * 3)
CLOUDS = st.lists(COORDINATES, min_size=1, max_size=60).map(lambda rows: np.array(rows, np.float64))


def a_cloud(count: int = 2000) -> np.ndarray:
    return np.random.default_rng(3).normal([8.0, -2.0, 0.5], 1, (count, 3))


def far_apart(first: np.ndarray, second: np.ndarray) -> float:
    """The furthest that any point of one lies from the nearest of the other."""
    distances = np.abs(first[:, None] - second[None]).max(2)
    return float(max(distances.min(0).max(), distances.min(1).max()))


@given(CLOUDS, st.sampled_from([0.01, 0.02, 0.5]))
def test_points_come_back_within_half_a_step(cloud, step):
    coded = encode_points(cloud, step)
    back = decode_points(coded)
    assert back.shape == cloud.shape
    assert far_apart(cloud, back) <= coded.step_m / 2 + 1e-6


def test_the_same_points_in_any_order_are_the_same_bytes_and_few():
    cloud = a_cloud()
    coded = encode_points(cloud)
    assert encode_points(cloud[::-1]) == coded
    assert len(coded.encoded) < 6 * len(cloud) / 1.7
    assert encode_points(np.repeat(cloud[:1], 3, axis=0)).count == 3  # a set with an element three times


@pytest.mark.parametrize(
    ("cloud", "why"),
    [
        (np.zeros((0, 3)), "1 to"),
        (np.zeros((MAX_POINTS + 1, 3)), "1 to"),
        (np.zeros((5, 4)), "shape"),
        (np.array([[0.0, np.nan, 0.0]]), "finite"),
        (np.array([[0.0, 0.0, 0.0], [0.0, 656.0, 0.0]]), "656 m apart"),
    ],
)
def test_what_cannot_be_sent_is_refused(cloud, why):
    with pytest.raises(InputError, match=why):
        encode_points(cloud)


@given(st.binary(max_size=400), st.integers(-1, MAX_POINTS + 1))
def test_random_bytes_are_refused_or_points(data, count):
    check(PointCrop((0.0, 0.0, 0.0), 0.01, count, data))


@given(st.data())
def test_damaged_bytes_are_refused_or_points(data):
    coded = encode_points(a_cloud(50))
    damaged = bytearray(coded.encoded)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(damaged)))
    check(replace(coded, encoded=bytes(damaged)))
    check(replace(coded, encoded=bytes(damaged[:cut])))


def check(coded: PointCrop) -> None:
    try:
        points = decode_points(coded)
    except EvidenceError:
        return
    assert points.shape == (coded.count, 3)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("declared", [True, False])
def test_a_bomb_allocates_nothing(declared):
    compressor = zstandard.ZstdCompressor(19, write_content_size=declared)
    bomb = compressor.compress(bytes(200 << 20)) if declared else compressor.compressobj().compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceError):
            decode_points(PointCrop((0.0, 0.0, 0.0), 0.01, 100, bomb))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "changes",
    [{"count": 1999}, {"count": 0}, {"step_m": float("nan")}, {"step_m": 0.0}, {"origin": (0, 0, float("inf"))}],
)
def test_a_wrong_description_is_refused(changes):
    with pytest.raises(EvidenceError):
        decode_points(replace(encode_points(a_cloud()), **changes))


def test_a_frame_must_say_its_size_and_ask_for_little_memory():
    coded = encode_points(a_cloud(50))
    planes = zstandard.ZstdDecompressor().decompress(coded.encoded)
    wide = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=False)
    silent = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(EvidenceError, match="window of 16777216 bytes"):
        decode_points(replace(coded, encoded=silent.compress(planes) + silent.flush()))
