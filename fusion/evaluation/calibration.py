"""Whether probabilities mean what they say, and the one number that mends most of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.review.temperatures import temper
from fusion.types import Float64Array

BINS = 15


def expected_calibration_error(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    *,
    bins: int = BINS,
    weights: Float64Array | None = None,
    answers: NDArray[np.integer] | None = None,
) -> float:
    """Mean gap between confidence and accuracy, over equal-width confidence bins weighted by their items.

    `probabilities` (N, options), `truth` (N,) option indices, `weights` (N,) what each counts, `answers` (N,) what is
    answered, the most probable option if not given; confidence is the answer's probability.
    Naeini et al., 2015; 0 is best. Raises `ValueError` without items.
    """
    if not len(probabilities) or len(probabilities) != len(truth):
        raise ValueError(f"{len(probabilities)} answers and {len(truth)} truths have no calibration")
    chosen = probabilities.argmax(1) if answers is None else answers
    confidence = np.take_along_axis(probabilities, chosen[:, None], 1)[:, 0]
    right = chosen == truth
    which = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    counts = np.ones(len(truth)) if weights is None else weights
    gap = np.bincount(which, weights=(confidence - right) * counts, minlength=bins)
    return float(np.abs(gap).sum() / counts.sum())


def negative_log_likelihood(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Mean -log p(truth) in nats; `probabilities` (N, options), `truth` (N,)."""
    chosen = np.take_along_axis(probabilities, truth[:, None], 1)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_temperature(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """The temperature in 0.25..10 with the least negative log-likelihood (Guo et al., 2017), by golden section.

    In 1 / temperature the likelihood is concave, so the search finds the one optimum.
    """
    ratio = (np.sqrt(5.0) - 1) / 2
    low, high = 0.1, 4.0

    def loss(inverse: float) -> float:
        return negative_log_likelihood(temper(probabilities, 1 / inverse), truth)

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(40):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(2 / (low + high))
