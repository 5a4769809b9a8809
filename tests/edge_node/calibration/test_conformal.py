"""Risk control keeps its promise on data nobody tuned it for, and agrees with MAPIE."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control.methods import find_best_predict_param, get_r_hat_plus

from edge_node.calibration.conformal import bound, never_rising, strictest

CUTS = np.linspace(1.0, 0.0, 41)


def missed(suspicion: np.ndarray, cuts: np.ndarray = CUTS) -> np.ndarray:
    """Losses (N, T) of units that are sent when their suspicion is above the cut."""
    return ~(suspicion[:, None] > cuts)


@pytest.mark.parametrize(("units", "alpha"), [(40, 0.1), (120, 0.05), (400, 0.05), (400, 0.2)])
def test_the_expected_share_of_missed_units_is_kept(units: int, alpha: float) -> None:
    rng = np.random.default_rng(units)
    found = []
    for _ in range(600):
        suspicion = np.where(rng.random(units + 200) < 0.02, 0.0, rng.beta(2, 1.5, units + 200))  # some are never seen
        chosen = strictest(bound(never_rising(missed(suspicion[:units]))), alpha)
        found.append(float(missed(suspicion[units:])[:, chosen].mean()) if chosen is not None else 0.0)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert np.mean(found) <= alpha + 2 * error
    assert np.mean(found) > alpha / 4, "sending everything is no answer"


@given(st.integers(0, 2**32), st.integers(5, 80), st.floats(0.03, 0.9))
@settings(max_examples=150, deadline=None)
def test_it_chooses_what_mapie_chooses(seed: int, units: int, alpha: float) -> None:
    losses = missed(np.random.default_rng(seed).random(units)).astype(float)
    _, theirs = get_r_hat_plus(losses, CUTS, method="crc", bound=None, delta=None, sigma_init=None)
    assert np.allclose(bound(losses), theirs)
    chosen = strictest(bound(losses), alpha)
    if chosen is None:
        assert theirs.min() > alpha
    elif not np.isclose(theirs, alpha).any():
        # MAPIE counts its parameter upwards from loose, and answers with the last that is still good.
        best = find_best_predict_param(CUTS[::-1], theirs[::-1], np.array([alpha]))
        assert CUTS[chosen] == best[0]


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 12))
def test_losses_that_rise_again_are_taken_at_their_worst(seed: int, units: int, cuts: int) -> None:
    losses = np.random.default_rng(seed).random((units, cuts)) < 0.5
    flat = never_rising(losses)
    assert (flat >= losses).all()
    assert (np.diff(flat.astype(int), axis=1) <= 0).all()
    for row, own in zip(flat, losses, strict=True):
        assert row.tolist() == [bool(own[i:].any()) for i in range(cuts)]


def test_too_few_units_promise_nothing() -> None:
    assert strictest(bound(np.zeros((18, 3))), 0.05) is None
    assert strictest(bound(np.zeros((19, 3))), 0.05) == 0
