"""The lottery's estimate is unbiased, its interval covers, and it reads what a spool holds."""

import json
import sqlite3

import numpy as np
import pytest

from edge_node.miss_rate import TrackReviews, estimate, is_defect, miss_rate
from edge_node.spool.schema import TABLES
from fusion.errors import SpoolError
from fusion.task import Task

RATE = 0.05


def world(rng: np.random.Generator, defects: int = 300, caught: float = 0.8) -> tuple[list[TrackReviews], float]:
    """Tracks as screening and the lottery would treat them, and the true share of missed defects."""
    tracks, missed = [], 0
    for number in range(3 * defects):
        defect, passed = number < defects, int(rng.integers(1, 60))
        sent = defect and rng.random() < caught
        missed += defect and not sent
        drawn = int(rng.binomial(passed, RATE))
        tracks.append(TrackReviews(passed, drawn, drawn, defect and drawn > 0, sent))
    return tracks, missed / defects


def test_the_estimate_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    errors, covered = [], []
    for _ in range(300):
        tracks, true = world(rng)
        found = estimate(tracks, RATE)
        errors.append((found.share or 0.0) - true)
        covered.append((found.low or 0.0) <= true <= (found.high or 0.0))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(300) + 0.004  # a ratio's own bias is of order 1/n
    assert np.mean(covered) > 0.9


def test_answers_that_are_still_to_come_do_not_bias_it() -> None:
    rng = np.random.default_rng(4)
    errors = []
    for _ in range(200):
        tracks, true = world(rng, 600)
        late = []
        for track in tracks:
            answered = int(rng.binomial(track.drawn, 0.5))
            defect = track.by_lottery and answered > 0
            late.append(TrackReviews(track.passed, track.drawn, answered, defect, track.by_screening))
        errors.append((estimate(late, RATE).share or 0.0) - true)
    assert abs(np.mean(errors)) < 0.01


def test_what_cannot_be_said_is_not_said() -> None:
    assert estimate([], RATE).share is None
    assert "not known yet" in str(estimate([TrackReviews(9, 0, 0, by_screening=True)], RATE))
    none_missed = estimate([TrackReviews(20, 1, 1)] * 50 + [TrackReviews(20, 0, 0, by_screening=True)] * 100, RATE)
    assert (none_missed.share, none_missed.low) == (0.0, 0.0)
    assert 0 < (none_missed.high or 0) < 0.1


@pytest.mark.parametrize(
    ("task", "options", "defect"),
    [
        ("yard", {"object": "drum", "condition": "leaking"}, True),
        ("yard", {"object": "drum", "condition": "ok"}, False),
        ("yard", {"object": "nothing", "condition": "leaking"}, False),
        ("pcb", {"defect": "real", "type": "open"}, True),
        ("pcb", {"defect": "false-alarm", "type": "none"}, False),
    ],
)
def test_what_a_verdict_calls_a_defect(task: str, options: dict[str, str], defect: bool) -> None:
    assert is_defect(Task.load(task), options) is defect


def test_a_spool_is_read(tmp_path) -> None:
    path = tmp_path / "spool.db"
    db = sqlite3.connect(path)
    for table in TABLES:
        db.execute(table)
    leaking = json.dumps({"slots": {"object": {"option": "drum"}, "condition": {"option": "leaking"}}})
    rows = [(1, 7, "passed", "", None), (2, 7, "reviewed", "audit", leaking), (3, 8, "reviewed", "suspect", leaking)]
    for sequence, track, state, reasons, verdict in rows:
        values = (sequence, 1, track, 0, 0, 9, 9, "drum", 0.9, "{}", "{}", reasons, 0, state, "", None)
        db.execute(f"INSERT INTO items VALUES ({','.join('?' * 24)})", (*values, 0, 0, 0, 0, 0, 1, None, verdict))
    db.commit()
    db.close()
    found = miss_rate(path, Task.load("yard"), 0.5)
    assert (found.audited, found.missed, found.found) == (1, 1, 1)
    assert found.share == pytest.approx((1 / 0.75) / (1 / 0.75 + 1))
    with pytest.raises(SpoolError, match="no spool there"):
        miss_rate(tmp_path / "none.db", Task.load("yard"), 0.5)
