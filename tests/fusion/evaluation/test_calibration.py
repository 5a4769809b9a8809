"""Calibration and bootstrap against simple oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.evaluation.bootstrap import mean_interval
from fusion.evaluation.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood
from fusion.review.temperatures import temper


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_error_of_a_hand_made_table() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.3, 0.7]] * 10)
    truth = np.array([0] * 5 + [1] * 5 + [1] * 10)  # 0.9 sure and half right; 0.7 sure and always right
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), bins=st.integers(1, 30))
def test_error_is_the_plain_loop(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, truth = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50)
    expected = 0.0
    for low in range(bins):
        rows = [i for i in range(50) if min(int(probabilities[i].max() * bins), bins - 1) == low]
        if rows:
            confidence = np.mean([probabilities[i].max() for i in rows])
            accuracy = np.mean([probabilities[i].argmax() == truth[i] for i in rows])
            expected += len(rows) / 50 * abs(confidence - accuracy)
    assert expected_calibration_error(probabilities, truth, bins=bins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(4)
    logits = 2 * rng.normal(size=(20_000, 5))
    truth = np.array([rng.choice(5, p=p) for p in softmax(logits)])
    overconfident = softmax(logits * temperature)
    assert fit_temperature(overconfident, truth) == pytest.approx(temperature, rel=0.06)
    mended = temper(overconfident, temperature)
    np.testing.assert_allclose(mended, softmax(logits), atol=1e-9)
    assert expected_calibration_error(mended, truth) < 0.02
    assert negative_log_likelihood(mended, truth) <= negative_log_likelihood(overconfident, truth) + 1e-12


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(ValueError, match="0 answers"):
        expected_calibration_error(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="cannot be resampled"):
        mean_interval(np.zeros(0), np.zeros(0))


def test_interval_of_independent_items_is_the_textbooks() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(3.0, 2.0, 2000)
    interval = mean_interval(values, np.arange(2000))
    half = 1.96 * values.std() / np.sqrt(2000)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert interval.excludes_zero


def test_groups_widen_the_interval() -> None:
    """Ten copies of each value are no more information than one."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=100)
    once = mean_interval(values, np.arange(100))
    copied = mean_interval(np.repeat(values, 10), np.repeat(np.arange(100), 10))
    naive = mean_interval(np.repeat(values, 10), np.arange(1000))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_intervals_hold_what_they_promise() -> None:
    """Over many samples, about 95 % of the intervals hold the true mean, and pairing is sharper than not."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        interval = mean_interval(rng.normal(0.5, 1.0, 80), np.arange(80), draws=300, seed=seed)
        held += interval.low <= 0.5 <= interval.high
    assert 178 <= held <= 199


def test_no_difference_does_not_exclude_zero() -> None:
    assert not mean_interval(np.zeros(50), np.arange(50)).excludes_zero
