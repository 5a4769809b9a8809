"""Screening tried on what was watched: every way to miss a defect counts, and caps are kept."""

import numpy as np
import pytest

from edge_node.calibration.choosing import Wanted, by_recording, choose, needed, points, thresholds, try_all
from edge_node.calibration.trying import Fate, attempt
from edge_node.calibration.watching import Defect, Moment, Watched
from edge_node.config import ScreeningSettings
from edge_node.fakes import detection
from edge_node.screener import Candidate
from edge_node.tracker import TrackView
from fusion.errors import ConfigError, InputError
from fusion.types import Box2D, ItemId, SampleId

SECOND = 1_000_000_000
QUIET = ScreeningSettings(uncertain_below=0.0, disagree_above=1.0, onset_s=0.0)


def candidate(sequence: int, number: int, suspicion: float, track: int) -> Candidate:
    item = ItemId(SampleId("cart-1", "0" * 16, sequence), number)
    return Candidate(item, TrackView(track, 0, 9), detection({"drum": 0.9}, Box2D(0, 0, 9, 9)), suspicion=suspicion)


def watched(*moments: list[tuple[float, int, int | None]], defects: int, size: int = 0) -> Watched:
    """Moments a second apart of (suspicion, track, defect)."""
    rows = []
    for second, row in enumerate(moments, 1):
        things = tuple(candidate(second, n, s, track) for n, (s, track, _) in enumerate(row, 1))
        units = tuple(unit for _, _, unit in row)
        rows.append(Moment(second * SECOND, things, units, (size,) * len(row), fresh=second == 1))
    return Watched("one.mcap", tuple(rows), (Defect("drum", "leaking", 3),) * defects, tracking=True)


def fates(seen: Watched, above: float, **more: float) -> list[Fate]:
    return list(attempt(seen, QUIET.model_copy(update={"suspect_above": above, **more})).fates)


def test_every_way_to_miss_a_defect_is_told() -> None:
    seen = watched(
        [(0.9, 1, 0), (0.2, 2, 1)],
        [(0.9, 1, 0), (0.2, 2, 1), (0.85, 1, 3)],  # the tracker takes defect 3 for the thing of track 1
        defects=4,
    )
    assert fates(seen, 0.5) == [Fate.SENT, Fate.PASSED, Fate.UNSEEN, Fate.ELSEWHERE]
    assert fates(seen, 0.1) == [Fate.SENT, Fate.SENT, Fate.UNSEEN, Fate.ELSEWHERE]
    assert fates(seen, 1.0) == [Fate.PASSED, Fate.PASSED, Fate.UNSEEN, Fate.PASSED]


def test_what_is_shed_for_the_budget_is_missed() -> None:
    seen = watched([(0.9, 1, 0), (0.8, 2, 1)], defects=2, size=3000)
    tight = {"budget_bytes_per_s": 1.0, "budget_burst_bytes": 4096}
    assert fates(seen, 0.5, **tight) == [Fate.SENT, Fate.SHED]
    assert attempt(seen, QUIET.model_copy(update={"suspect_above": 0.5, **tight})).sent_bytes == 3000


def test_one_thing_over_forty_frames_is_one_review() -> None:
    trial = attempt(watched(*[[(0.9, 1, 0)]] * 40, defects=1), QUIET.model_copy(update={"suspect_above": 0.5}))
    assert (trial.sent, trial.deduplicated) == (4, 36)  # once in ten seconds


def test_the_lottery_is_no_part_of_the_promise() -> None:
    assert fates(watched([(0.1, 1, 0)], defects=1), 0.5, audit_rate=1.0) == [Fate.PASSED]


def many(count: int, rng: np.random.Generator) -> list[Watched]:
    return [watched([(float(rng.beta(3, 1)), 1, 0), (float(rng.beta(1, 6)), 2, None)], defects=1) for _ in range(count)]


def test_the_strictest_threshold_that_keeps_the_promise_is_chosen() -> None:
    recordings = many(200, np.random.default_rng(1))
    cuts = thresholds(recordings)
    assert cuts == sorted(set(cuts), reverse=True)
    assert (cuts[0], cuts[-1]) == (1.0, 0.0)
    curve = points(recordings, try_all(recordings, QUIET, cuts, quiet=True), cuts)
    chosen = choose(curve, Wanted(0.1), 200)
    assert chosen.promised <= 0.1
    assert all(point.promised > 0.1 for point in curve if point.suspect_above > chosen.suspect_above)
    assert 0 < chosen.share < 1
    assert sum(chosen.fates.values()) == 200


def test_a_promise_that_cannot_be_kept_says_what_could_be() -> None:
    recordings = many(12, np.random.default_rng(2))
    cuts = thresholds(recordings)
    curve = points(recordings, try_all(recordings, QUIET, cuts, quiet=True), cuts)
    with pytest.raises(ConfigError, match=r"cannot be promised from 12 defects; 0.05 takes 19 defects at least"):
        choose(curve, Wanted(0.05), 12)
    with pytest.raises(ConfigError, match=r"more than the cap allows; within the cap \d\.\d+ can be promised"):
        choose(curve, Wanted(0.3, share=0.05), 12)
    with pytest.raises(InputError, match="no defect comes into clear view"):
        points([watched([(0.9, 1, None)], defects=0)], [[attempt(watched(defects=0), QUIET)]], [1.0])


def test_the_bound_by_recordings_sees_that_defects_of_one_have_something_in_common() -> None:
    """In each recording all defects share one suspicion: there are as many units as recordings."""
    rng, alpha, few, kept, broken = np.random.default_rng(5), 0.25, 6, [], []
    for _ in range(80):
        fates = rng.beta(2, 1.5, few + 20)
        recordings = [watched([(float(fate), n, n) for n in range(8)], defects=8) for fate in fates]
        cuts = [1.0, *sorted((float(fate) - 1e-6 for fate in fates[:few]), reverse=True)]
        trials = try_all(recordings, QUIET, cuts, quiet=True)
        curve, new = points(recordings[:few], trials[:few], cuts), by_recording(trials[few:]).mean(0)
        kept.append(new[next(place for place, point in enumerate(curve) if point.by_recording <= alpha)])
        broken.append(new[next(place for place, point in enumerate(curve) if point.promised <= alpha)])
    assert np.mean(kept) <= alpha
    assert np.mean(broken) > alpha
    assert [needed(alpha) for alpha in (0.05, 0.1, 0.25)] == [19, 9, 3]
