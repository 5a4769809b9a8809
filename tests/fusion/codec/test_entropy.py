import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.codec import empirical_bits, fit_frequencies
from fusion.codec.entropy import (
    PRECISION_BITS,
    decode_symbols,
    encode_symbols,
    max_encoded_bytes,
    scaled_frequencies,
    symbol_models,
)
from fusion.errors import EvidenceError, ModelError


def reference_rans(channels: list[tuple[list[int], list[int]]]) -> bytes:
    """The same stream in Python integers alone: (scaled frequencies, symbols) a channel."""
    state, words = 0, []
    for shares, symbols in reversed(channels):
        starts = [sum(shares[:i]) for i in range(len(shares))]
        for symbol in reversed(symbols):
            share = shares[symbol]
            if state >= share << (64 - PRECISION_BITS):
                words.append(state & 0xFFFFFFFF)
                state >>= 32
            state = (state // share << PRECISION_BITS) + state % share + starts[symbol]
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return b"".join(word.to_bytes(4, "little") for word in words)


tables = st.integers(2, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.one_of(st.integers(1, 20), st.integers(1, 1 << 20)), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


@st.composite
def streams(draw):
    rows = np.array(draw(tables), np.int32)
    symbols = [draw(st.lists(st.integers(0, rows.shape[1] - 1), max_size=60)) for _ in rows]
    return rows, symbols


@given(streams())
@settings(max_examples=150, deadline=None)
def test_bytes_are_those_of_integer_arithmetic_and_decode_back(stream):
    rows, symbols = stream
    models = symbol_models(rows)
    data = encode_symbols([(m, np.array(s, np.int32)) for m, s in zip(models, symbols, strict=True)])
    assert data == reference_rans(list(zip(scaled_frequencies(rows).tolist(), symbols, strict=True)))
    assert len(data) <= max_encoded_bytes(sum(map(len, symbols)))
    decoded = decode_symbols(data, [(m, len(s)) for m, s in zip(models, symbols, strict=True)])
    assert [d.tolist() for d in decoded] == symbols


@given(tables)
@settings(deadline=None)
def test_scaled_rows_sum_to_the_whole_range(rows):
    scaled = scaled_frequencies(np.array(rows, np.int32))
    assert (scaled >= 1).all()
    assert (scaled.sum(1) == 1 << PRECISION_BITS).all()


def test_a_stream_of_the_wrong_count_is_refused():
    models = symbol_models(np.array([[5, 3, 2]], np.int32))
    data = encode_symbols([(models[0], np.array([0, 2, 1, 1, 2, 0, 2, 1] * 8, np.int32))])
    for count in (63, 60, 10):
        with pytest.raises(EvidenceError, match="do not end"):
            decode_symbols(data, [(models[0], count)])
    with pytest.raises(EvidenceError, match="bytes of symbols"):
        decode_symbols(data + b"\1\0\0\0" * 9, [(models[0], 8)])
    with pytest.raises(EvidenceError, match="not a rANS stream"):
        decode_symbols(b"\1\0\0\0\0\0\0\0", [(models[0], 64)])


def test_fitted_tables_know_every_symbol_and_come_near_the_entropy():
    rng = np.random.default_rng(1)
    codes = np.rint(rng.laplace(0, [0.3, 1.0, 3.0], (4000, 3))).astype(np.int8)
    table = fit_frequencies(codes, 31)
    assert table.shape == (3, 63)
    assert table.min() >= 1
    fresh = np.rint(rng.laplace(0, [0.3, 1.0, 3.0], (4000, 3))).astype(np.int8)
    entropy = []
    for channel in fresh.T:
        share = np.unique(channel, return_counts=True)[1] / len(channel)
        entropy.append(-(share * np.log2(share)).sum())
    assert empirical_bits(fresh, table) < np.mean(entropy) * 1.03
    models = symbol_models(table)
    shifted = [(m, c.astype(np.int32) + 31) for m, c in zip(models, np.clip(fresh, -31, 31).T, strict=True)]
    coded_bits = len(encode_symbols(shifted)) * 8 / fresh.size
    assert coded_bits == pytest.approx(empirical_bits(fresh, table), rel=0.01)


def test_tails_never_seen_cost_more_the_farther_they_are():
    table = fit_frequencies(np.array([[0], [1], [-1], [0]] * 100, np.int8), 15)[0]
    assert table[15 + 2] > table[15 + 4] >= table[15 + 8] >= 1


def test_nothing_to_fit_is_an_error():
    with pytest.raises(ModelError, match="cannot fit"):
        fit_frequencies(np.zeros((0, 3), np.int8), 31)
