"""The lottery's estimate is unbiased, its interval covers, and it reads what a spool holds."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_node.config import ScreeningSettings
from edge_node.fakes import detection
from edge_node.miss_rate import EVERY_NS, UNKNOWN, MissRate, MissRateWatch, TrackReviews, estimate, is_defect, miss_rate
from edge_node.screener import Candidate, Screener
from edge_node.spool.lottery import note_rate
from edge_node.spool.schema import TABLES
from edge_node.tracker import TrackView
from fusion.clock import ManualClock
from fusion.errors import SpoolError
from fusion.task import Task
from fusion.types import Box2D, ItemId, ItemState, SampleId

RATE = 0.05
YARD = Task.load("yard")
LEAKING, FINE = (
    json.dumps({"slots": {"object": {"option": "drum"}, "condition": {"option": condition}}})
    for condition in ("leaking", "ok")
)
DRUM = detection({"drum": 0.9}, Box2D(0, 0, 9, 9))


def world(rng: np.random.Generator, defects: int = 300, caught: float = 0.8) -> tuple[list[TrackReviews], float]:
    """Tracks as screening and the lottery would treat them, and the true share of missed defects."""
    tracks, missed = [], 0
    for number in range(3 * defects):
        defect, passed = number < defects, int(rng.integers(1, 60))
        sent = defect and rng.random() < caught
        missed += defect and not sent
        drawn = bool(rng.random() < 1 - (1 - RATE) ** passed)
        tracks.append(TrackReviews(passed, drawn, drawn or sent, sent, defect and (drawn or sent)))
    return tracks, missed / defects


@pytest.mark.parametrize("caught", [0.8, 0.98])
def test_the_estimate_is_unbiased_and_its_interval_covers(caught: float) -> None:
    rng = np.random.default_rng(3)
    errors, covered = [], []
    for _ in range(300):
        tracks, true = world(rng, caught=caught)
        found = estimate(tracks, RATE)
        errors.append((found.share or 0.0) - true)
        covered.append((found.low or 0.0) <= true <= (found.high or 0.0))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(300) + 0.004  # a ratio's own bias is of order 1/n
    assert np.mean(covered) > 0.93


def test_answers_that_are_still_to_come_do_not_bias_it() -> None:
    rng = np.random.default_rng(4)
    errors = []
    for _ in range(200):
        tracks, true = world(rng, 600)
        late = []
        for track in tracks:
            answered = bool(track.answered and rng.random() < (0.8 if track.screened else 0.5))
            late.append(replace(track, answered=answered, defect=track.defect and answered))
        errors.append((estimate(late, RATE).share or 0.0) - true)
    assert abs(np.mean(errors)) < 0.01


def test_each_miss_that_is_found_raises_the_bounds() -> None:
    sent = [TrackReviews(9, answered=True, screened=True, defect=True)] * 100
    bounds = []
    for hits in range(8):
        drawn = [TrackReviews(20, drawn=True, answered=True, defect=n < hits) for n in range(50)]
        found = estimate([*sent, *drawn, *[TrackReviews(20)] * 1000], 0.01)
        bounds.append((found.low or 0.0, found.high or 0.0))
    assert all(a[0] <= b[0] and a[1] < b[1] for a, b in itertools.pairwise(bounds))
    weight = 1 / (1 - 0.99**20)
    assert bounds[0][1] == pytest.approx(3.69 * weight / (3.69 * weight + 100), rel=0.1)  # Poisson's limit of no hit


def test_what_cannot_be_said_is_not_said() -> None:
    sent = TrackReviews(20, answered=True, screened=True, defect=True)
    assert estimate([], RATE).share is None
    assert "not known yet" in str(estimate([sent], RATE))
    none_missed = estimate([TrackReviews(20, drawn=True, answered=True)] * 50 + [sent] * 100, RATE)
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


Row = tuple[int, int, str, str, str | None]
"""Sample, track, state, reasons and verdict of an item."""


def store(path: Path, rows: list[Row], rate: float | None) -> None:
    """A spool's file with these items, drawn at `rate`."""
    db = sqlite3.connect(path)
    for table in TABLES:
        db.execute(table)
    if rate is not None:
        note_rate(db, rate, 1)
    blank = (0, 0, 9, 9, "drum", 0.9, "{}", "{}")
    values = [
        (s, 1, track, *blank, why, 0, state, "", None, 0, 0, 0, 0, 0, 1, None, v) for s, track, state, why, v in rows
    ]
    db.executemany(f"INSERT INTO items VALUES ({','.join('?' * 24)})", values)
    db.commit()
    db.close()


def test_a_spool_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    store(
        path,
        [(1, 7, "passed", "", None), (2, 7, "reviewed", "audit", LEAKING), (3, 8, "reviewed", "suspect", LEAKING)],
        0.5,
    )
    found = miss_rate(path, YARD)
    assert (found.audited, found.missed, found.found) == (1, 1, 1)
    assert found.share == pytest.approx((1 / 0.75) / (1 / 0.75 + 1))
    with pytest.raises(SpoolError, match="no spool there"):
        miss_rate(tmp_path / "none.db", YARD)


def test_a_suspect_item_that_repeats_an_audited_one_is_no_miss(tmp_path: Path) -> None:
    drawn, passed = (1, 7, "reviewed", "audit", LEAKING), (4, 8, "reviewed", "audit", FINE)
    for name, state, missed in (("a", "deduplicated", 0), ("b", "shed", 1)):
        store(tmp_path / name, [drawn, (2, 7, state, "suspect", None), passed], RATE)
        assert miss_rate(tmp_path / name, YARD).missed == missed


def test_draws_that_repeat_an_audited_one_wait_for_no_answer(tmp_path: Path) -> None:
    rows = [(1, 7, "reviewed", "audit", LEAKING), (2, 8, "reviewed", "suspect", LEAKING)]
    store(tmp_path / "once", [*rows, *((n, 7, "passed", "", None) for n in range(3, 9))], RATE)
    store(tmp_path / "often", [*rows, *((n, 7, "deduplicated", "audit", None) for n in range(3, 9))], RATE)
    assert miss_rate(tmp_path / "often", YARD) == miss_rate(tmp_path / "once", YARD)


def test_only_what_was_drawn_at_the_present_rate_counts(tmp_path: Path) -> None:
    rows = [(n, n, "reviewed", "audit", LEAKING) for n in range(1, 5)] + [(5, 9, "reviewed", "suspect", LEAKING)]
    store(tmp_path / "spool.db", rows, None)
    assert miss_rate(tmp_path / "spool.db", YARD).share is None  # of an earlier program: nobody knows at which rate
    for rate, first, missed in ((0.5, 1, 4), (0.5, 5, 4), (0.1, 4, 1)):  # the same rate again changes nothing
        with sqlite3.connect(tmp_path / "spool.db") as db:
            note_rate(db, rate, first)
        db.close()
        assert miss_rate(tmp_path / "spool.db", YARD).missed == missed


def screened(seed: int, caught: float, settings: ScreeningSettings, tracks: int = 480) -> tuple[list[Row], float]:
    """What the screener makes of tracks of thirty samples, a sixth of them defects, of which it suspects the share
    `caught`; and the true share of those that it does not.
    """
    rng, screener = np.random.default_rng(seed), Screener(settings.model_copy(update={"seed": seed}))
    rows: list[Row] = []
    missed, sequence, defects = 0, 0, tracks // 6
    for track in range(1, tracks + 1):
        defect = track <= defects
        doubt = 0.9 if defect and rng.random() < caught else 0.1
        missed += defect and doubt < 0.5
        for place in range(int(rng.integers(10, 50))):
            sequence, time_ns = sequence + 1, track * 10**11 + place * 10**8
            item = ItemId(SampleId("cart-1", "0" * 16, sequence), 1)
            view = TrackView(track, track * 10**11, place + 1)
            (decision,) = screener.decide(time_ns, [Candidate(item, view, DRUM, suspicion=doubt)])
            sent = decision.state is ItemState.PENDING
            state = "reviewed" if sent else decision.state.value
            rows.append(
                (sequence, track, state, ",".join(decision.reasons), (LEAKING if defect else FINE) if sent else None)
            )
        screener.forget()
    return rows, missed / defects


@pytest.mark.parametrize(("caught", "rate"), [(1.0, 0.01), (0.9, 0.02)])
def test_what_the_screener_and_its_lottery_leave_in_a_spool_tells_the_truth(
    tmp_path: Path, caught: float, rate: float
) -> None:
    settings = ScreeningSettings(
        uncertain_below=0.0, disagree_above=1.0, novelty=0.0, suspect_above=0.5, audit_rate=rate
    )
    errors, covered = [], []
    for seed in range(6):
        rows, true = screened(seed, caught, settings)
        store(tmp_path / str(seed), rows, rate)
        found = miss_rate(tmp_path / str(seed), YARD)
        errors.append((found.share or 0.0) - true)
        covered.append((found.low or 0.0) <= true <= (found.high or 0.0))
    assert abs(np.mean(errors)) <= 3 * np.std(errors) / np.sqrt(len(errors)) + 0.01  # of eighty defects, as above
    assert sum(covered) >= 5


def test_who_asks_does_not_wait_for_a_large_spool_to_be_read() -> None:
    clock, may_end, begun = ManualClock(), threading.Event(), []
    known = MissRate(0.1, 0.05, 0.2, 50, 2, 20)

    def slowly() -> MissRate:
        begun.append(clock.monotonic_ns())
        assert may_end.wait(20)
        clock.advance(10_000_000_000)
        return known

    watch = MissRateWatch(slowly, clock, patience_s=0.0)
    assert watch.latest() == UNKNOWN
    assert watch.latest() == UNKNOWN
    may_end.set()
    watch.join()
    assert watch.latest() == known
    assert begun == [0]
    clock.advance(50 * 10_000_000_000 - 10_000_000_001)  # fifty times what it took, since it began
    watch.latest()
    assert len(begun) == 1
    clock.advance(1)
    watch.latest()
    watch.join()
    assert len(begun) == 2


def test_a_quick_one_is_known_at_once_and_asked_for_once_a_minute_and_what_cannot_be_read_is_unknown() -> None:
    clock, told = ManualClock(), [MissRate(0.1, 0.05, 0.2, 50, 2, 20), SpoolError("spool.db: torn")]

    def quickly() -> MissRate:
        one = told.pop(0)
        if isinstance(one, SpoolError):
            raise one
        return one

    watch = MissRateWatch(quickly, clock)
    assert watch.latest().share == 0.1
    clock.advance(EVERY_NS - 1)
    assert watch.latest().share == 0.1
    assert len(told) == 1
    clock.advance(1)
    assert watch.latest() == UNKNOWN
