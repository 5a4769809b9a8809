"""A run of several recordings: each in its folder, joined in one result, and not run again when it is done."""

import json
from pathlib import Path

import pytest

from replay.cli import main


@pytest.fixture(scope="module")
def ran(cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    recordings = [cut(folder / f"part{n}.mcap", n, n + 1) for n in range(2)]
    out = folder / "out"
    assert main(["run", *map(str, recordings), "--out", str(out), "--no-scene"]) == 0
    return out, recordings


def read(out: Path, name: str):
    return json.loads((out / name).read_text())


def test_results_join_all_recordings_in_their_order(ran):
    out, _ = ran
    results = read(out, "results.json")
    assert [one["name"] for one in results["recordings"]] == ["part0", "part1"]
    places = [item["recording"] for item in results["items"]]
    assert places == sorted(places)
    assert set(places) == {"part0", "part1"}
    assert len({item["id"] for item in results["items"]}) == len(places)


def test_the_summary_counts_all_of_them(ran):
    out, _ = ran
    summary, results = read(out, "summary.json"), read(out, "results.json")
    assert summary["recordings"] == 2
    assert summary["samples"] == sum(one["samples"] for one in results["recordings"]) == 19
    assert summary["items"] == len(results["items"])
    assert summary["lost"] == summary["duplicates"] == 0
    missed = [one for one in results["defects"] if one["fate"] != "found"]
    assert summary["defects"] == len(results["defects"]) > 0
    assert summary["defects_missed"] == len(missed)


def test_what_is_done_is_not_run_again(ran):
    out, recordings = ran
    before = [path.stat().st_mtime_ns for path in sorted(out.glob("recordings/*/ledger.db"))]
    digest = read(out, "results.json")["sha256"]
    assert main(["run", *map(str, recordings), "--out", str(out), "--no-scene"]) == 0
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("recordings/*/ledger.db"))] == before
    assert read(out, "results.json")["sha256"] == digest


def test_other_settings_run_it_again(ran):
    out, recordings = ran
    changed = ["--set", "edge.screening.uncertain_below=0.2", "--out", str(out), "--no-scene"]
    reviewed = read(out, "summary.json")["reviewed"]
    assert main(["run", *map(str, recordings), *changed]) == 0
    assert read(out, "results.json")["settings"] == {"edge.screening.uncertain_below": "0.2"}
    assert read(out, "summary.json")["reviewed"] != reviewed
