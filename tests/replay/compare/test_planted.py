"""Regressions that are planted are found and named, and a rerun is not reported."""

import json
from pathlib import Path

import pytest

from replay.cli import main
from replay.compare.comparison import compare
from replay.compare.sides import read_side
from replay.compare.tolerances import Tolerances

GOLDEN = Path(__file__).parents[1] / "golden"


def told(before, after, tolerances=None):
    return compare(read_side(before), read_side(after), Tolerances.load(tolerances))


def test_a_rerun_is_not_reported(base, rerun, tmp_path, capsys):
    assert main(["compare", str(base), str(rerun), "--json", str(tmp_path / "out.json")]) == 0
    assert "nothing is beyond tolerance" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["agrees"] is True
    assert found["causes"] == found["findings"] == found["changes"] == found["fates"] == []
    assert found["matched"] > 100
    assert {one["difference"] for one in found["metrics"]} == {0.0}


def test_the_patrol_is_as_the_golden_run(whole):
    found = told(GOLDEN / "yard.json.gz", whole[0], GOLDEN / "tolerances.toml")
    assert found.agrees, found.findings
    assert len(found.matching.pairs) > 700


@pytest.mark.parametrize("tolerances", [None, GOLDEN / "tolerances.toml"], ids=["bundled", "golden"])
def test_a_threshold_off_by_a_twentieth_is_found_and_named(whole, tolerances):
    before = whole[0] if tolerances is None else GOLDEN / "yard.json.gz"
    found = told(before, whole[1], tolerances)
    assert not found.agrees
    causes = {one.kind: one for one in found.causes}
    assert set(causes) == {"settings", "threshold"}
    assert "edge.screening.uncertain_below went up" in causes["threshold"].because
    assert "edge.screening.uncertain_below: default before, 0.55 now" in causes["settings"].because
    assert {kind for change in found.changes for kind in change.kinds} <= {"state", "reasons", "uncertain", "lanes"}


@pytest.mark.parametrize("cause", ["channels", "calibration", "engine", "sensor-time", "camera-late"])
@pytest.mark.parametrize("tolerances", [None, GOLDEN / "tolerances.toml"], ids=["bundled", "golden"])
def test_a_planted_regression_is_found_and_named(base, planted, cause, tolerances, capsys):
    given = [] if tolerances is None else ["--tolerances", str(tolerances)]
    assert main(["compare", str(base), str(planted[cause]), *given]) == 1
    assert "beyond tolerance" in capsys.readouterr().out
    found = told(base, planted[cause], tolerances)
    assert [one.kind for one in found.causes if not one.certain] == [cause]
    other = [one.kind for one in found.causes if one.certain]
    assert other == ([] if cause == "engine" else ["input"])


def test_each_is_told_both_ways_round(base, planted):
    for cause in ("calibration", "engine", "sensor-time", "camera-late"):
        assert cause in [one.kind for one in told(planted[cause], base).causes]


def test_what_a_wrong_sign_breaks_is_behind_the_detector(base, planted):
    found = told(base, planted["calibration"])
    counts = {one.name: one.count for one in found.fields}
    assert counts["box"] == counts["score"] == counts["detector"] == 0
    assert counts["box3d"] > 0.9 * len(found.matching.pairs)
    assert counts["device"] > 0.1 * len(found.matching.pairs)
