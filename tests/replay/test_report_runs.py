"""The page of whole runs: many recordings, no service, no truth, nothing usable, far too much."""

import json
from dataclasses import replace

import pytest

from fusion.types import ItemState, LedgerCounts
from replay.report import samples
from replay.report.page import MAX_ROWS, Shown, write_report
from replay.report.recordings import recording_rows, troubles
from replay.report.samples import choose
from replay.results.frames import FrameIndex
from replay.results.records import Fate, RunResults
from replay.results.rivals import RivalBytes
from replay.results.summary import summarize

from .page_text import Page


def run_of(task, told, **settings):
    return RunResults(task, tuple(told), summarize(task, told, RivalBytes()), settings)


def render(results, path, frames=lambda time_ns: None):
    write_report(results, path, {one.name: Shown(frames) for one in results.recordings})
    return Page(path.read_text(encoding="utf-8"))


def texts(page, tag, style=""):
    return [" ".join(text.split()) for _, text in page.all(tag, style)]


def browser_data(page):
    return json.loads(next(text for attrs, text in page.all("script") if attrs))


@pytest.fixture(scope="module")
def parts(draw):
    """Three recordings of the same yard, with truth."""
    recording = draw.recording(8)
    return draw.run(recording).task, [draw.judged(draw.run(recording), recording, name) for name in "abc"]


def test_every_recording_has_its_line_with_damage_and_gaps(parts, tmp_path):
    task, told = parts
    torn = replace(told[1], damage="b.mcap: torn at byte 512", gap_reasons={"too late": 3})
    page = render(run_of(task, [told[0], torn, told[2]]), tmp_path / "r.html")
    lines = {attrs["data-recording"]: text for attrs, text in page.all("tr") if "data-recording" in attrs and
             "data-state" not in attrs and "data-fate" not in attrs}  # fmt: skip
    assert set(lines) == set("abc")
    assert "torn at byte 512" in lines["b"]
    assert "3 of its frames became no sample: too late" in lines["b"]
    missed = sum(defect.fate is not Fate.FOUND for defect in told[0].defects)
    assert f"{missed} of {len(told[0].defects)}" in lines["a"]
    assert page.unbalanced == []


def test_settings_that_were_changed_are_told_first(parts, tmp_path):
    task, told = parts
    page = render(run_of(task, told, **{"edge.screening.alpha": "0.1"}), tmp_path / "r.html")
    assert texts(page, "dt") == ["edge.screening.alpha"]
    assert texts(page, "dd") == ["0.1"]
    assert "as shipped" in " ".join(texts(render(run_of(task, told), tmp_path / "s.html"), "p", "lead"))


def test_many_recordings_keep_their_timelines_folded(parts, tmp_path):
    task, told = parts
    many = [replace(told[0], name=f"r{n}", items=tuple(replace(i, recording=f"r{n}", id=f"{n}/{i.id}")
            for i in told[0].items)) for n in range(5)]  # fmt: skip
    page = render(run_of(task, many), tmp_path / "r.html")
    assert ["open" in attrs for attrs, _ in page.all("details")] == [True, True, True, False, False]


def test_a_device_without_a_service_waits_and_has_lost_nothing(parts, tmp_path):
    task, told = parts
    reviewed = told[0].edge_ledger.items[ItemState.REVIEWED]
    items = tuple(
        replace(i, state=ItemState.PENDING, verdict={}) if i.state is ItemState.REVIEWED else i for i in told[0].items
    )
    counts = {**told[0].edge_ledger.items, ItemState.REVIEWED: 0, ItemState.PENDING: reviewed}
    alone = replace(told[0], items=items, cloud_ledger=None, reviews=(), edge_ledger=LedgerCounts(8, 0, counts))
    page = render(replace(run_of(task, [alone]), summary={}), tmp_path / "r.html")
    assert not page.all("li", "fails")
    assert not page.all("div", "bad")
    assert any("Waiting" in text and str(reviewed) in text for text in texts(page, "div", "tile"))
    assert [attrs["data-side"] for attrs, _ in page.all("p", "sum")] == ["device"]
    assert "not part of this run" in " ".join(texts(page, "p", "lead"))


def test_a_service_of_somebody_else_shows_one_side_only(parts, tmp_path):
    task, told = parts
    page = render(run_of(task, [replace(told[0], cloud_ledger=None)]), tmp_path / "r.html")
    assert not page.all("li", "fails")
    assert len(page.all("p", "sum")) == 1
    assert any("Lost · twice 0 · 0" in text for text in texts(page, "div", "tile"))


def test_a_recording_without_truth_says_so(parts, tmp_path):
    task, told = parts
    blind = replace(
        told[0], defects=(), samples=tuple(replace(s, truths=None) for s in told[0].samples),
        items=tuple(replace(i, truth=None, truth_answers={}) for i in told[0].items),
    )  # fmt: skip
    page = render(run_of(task, [blind]), tmp_path / "r.html")
    assert "tells no truth" in " ".join(texts(page, "p", "lead"))
    assert any("no truth to count them by" in text for text in texts(page, "div", "tile"))
    assert not [attrs for attrs, _ in page.all("tr") if "data-fate" in attrs]
    mixed = render(run_of(task, [blind, replace(told[1])]), tmp_path / "m.html")
    assert "1 of the recordings tell no truth" in " ".join(texts(mixed, "p", "lead"))


def test_a_recording_of_which_nothing_was_used_says_why(parts, tmp_path):
    task, told = parts
    states = dict.fromkeys(ItemState, 0)
    empty = replace(
        told[0], samples=(), items=(), defects=(), reviews=(), edge_ledger=LedgerCounts(0, 9, states),
        cloud_ledger=LedgerCounts(0, 0, states), gap_reasons={"camera 'front' has no calibration": 9},
    )  # fmt: skip
    page = render(run_of(task, [empty]), tmp_path / "r.html")
    assert texts(page, "p", "alarm") == ["Nothing of a could be used: camera 'front' has no calibration."]
    assert troubles(empty) == ("9 of its frames became no sample: camera 'front' has no calibration",)


def test_far_too_many_items_are_capped_and_it_says_so(draw, parts, tmp_path, monkeypatch):
    task, told = parts
    step = (told[0].samples[-1].time_ns - told[0].samples[0].time_ns) + 100_000_000
    many = [(s, k) for k in range(120) for s in told[0].samples]
    long = replace(
        told[0],
        samples=tuple(replace(s, sequence=s.sequence + 8 * k, time_ns=s.time_ns + k * step) for s, k in many),
        items=tuple(
            replace(i, sequence=n, time_ns=i.time_ns + k * step, id=f"d/e/{n}#{i.track}")
            for k in range(120) for i in told[0].items if (n := i.sequence + 8 * k)
        ),
    )  # fmt: skip
    monkeypatch.setattr(samples, "MOST_SAMPLES", 300)
    results = draw.close(run_of(task, [long]))
    page = render(results, tmp_path / "r.html")
    assert len([attrs for attrs, _ in page.all("tr") if "data-state" in attrs]) == MAX_ROWS < len(long.items)
    leads = " ".join(texts(page, "p", "lead"))
    assert f"3 000 of {len(long.items) // 1000} {len(long.items) % 1000} items" in leads
    assert "300 of 960 samples" in leads
    assert len(browser_data(page)["samples"]) == 300
    points = [len(line["points"].split()) for line, _ in page.all("polyline")]
    assert points
    assert max(points) <= 1200
    assert (tmp_path / "r.html").stat().st_size < 6_000_000


def test_samples_with_missed_defects_are_kept_first_and_the_rest_is_spread(parts):
    task, told = parts
    missed = {d.time_ns for one in told for d in one.defects if d.fate is not Fate.FOUND}
    few = choose(run_of(task, told), 5, 10_000, 100, frozenset())
    assert few.count == 5 < few.total == 24
    kept = [sample.time_ns for chosen in few.samples.values() for sample in chosen]
    assert sum(time in missed for time in kept) == min(5, sum(s.time_ns in missed for one in told for s in one.samples))
    bare = [replace(one, items=(), defects=()) for one in told]
    spread = choose(run_of(task, bare), 6, 10_000, 100, frozenset())
    assert {name: len(chosen) for name, chosen in spread.samples.items()} == {"a": 2, "b": 2, "c": 2}
    assert choose(run_of(task, told), 99, 13, 100, frozenset()).count == 2
    assert len(choose(run_of(task, told), 99, 10_000, 4, frozenset()).pictured) == 4


def test_the_browser_gets_every_item_and_truth_of_its_samples(parts, draw, tmp_path):
    task, told = parts
    recording = draw.recording(8)
    page = render(run_of(task, told[:1]), tmp_path / "r.html", FrameIndex(recording, task))
    data = browser_data(page)
    one = told[0]
    for sample, row in zip(one.samples, data["samples"], strict=True):
        _, sequence, _, _, picture, items, truths = row
        assert sequence == sample.sequence
        assert picture is not None
        mine = [item for item in one.items if item.sequence == sequence]
        assert [data["words"][item[1]] for item in items] == [item.label for item in mine]
        assert [data["words"][item[3]] for item in items] == [item.state.value for item in mine]
        assert len(truths) == len(sample.truths)
    fates = {data["words"][truth[2]] for row in data["samples"] for truth in row[6] if truth[2] is not None}
    assert fates == {defect.fate.value for defect in one.defects}
    large = {attrs["id"] for attrs, _ in page.all("symbol")}
    used = {row[4] for row in data["samples"]}
    assert used <= large | set(range(len(data["pictures"])))


def test_too_many_recordings_keep_those_with_troubles(parts):
    task, told = parts
    many = [replace(told[0], name=f"r{n}", damage="torn" if n == 7 else "") for n in range(9)]
    rows = recording_rows(run_of(task, many), 3)
    assert [row.name for row in rows] == ["r0", "r1", "r7"]
