"""Axes, histograms and the ledger's picture."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.types import ItemState, LedgerCounts
from replay.report import ledger_figure, wording
from replay.report.axes import Axis, nice_step, spanning
from replay.report.plots import Mark, Series, counted, histogram, reliability
from replay.results.answers import calibration


@given(st.floats(1e-6, 1e9))
def test_a_nice_step_is_round_and_not_below(rough):
    step = nice_step(rough)
    assert rough * (1 - 1e-6) <= step <= rough * 2.5 * (1 + 1e-6)
    digits = step / 10 ** np.floor(np.log10(step * 1.0000001))
    assert round(float(digits), 6) in (1.0, 2.0, 2.5, 5.0, 10.0)


@given(st.lists(st.floats(0, 1e7), min_size=1), st.booleans())
def test_an_axis_holds_its_values_and_its_ticks(values, log):
    low, high = spanning(values, log=log)
    axis = Axis(low, high, 40, 540, log)
    assert all(40 <= axis.at(value) <= 540 for value in values)
    assert all(low <= tick <= high * (1 + 1e-9) for tick in axis.ticks())
    assert high >= max(values)


def test_a_histogram_counts_every_value():
    drawing = histogram("t", [Series("s", [1.0, 2.0, 2.0, 9.0], "edge")], [Mark("m", 20, "budget")], str, str)
    root = ET.fromstring(drawing)
    counts = [int(re.match(r"s: (\d+) from", tip.text).group(1)) for tip in root.iter("title")]
    assert sum(counts) == 4
    assert "m 20" in drawing


def test_nothing_measured_is_said():
    assert "Nothing was measured" in histogram("t", [Series("s", [], "edge")], [], str, str)
    assert "Nothing was measured" in counted("t", [], "edge")
    assert "known truth" in reliability("t", calibration([]))


def test_words_in_a_drawing_cannot_become_markup():
    drawing = histogram("<b>", [Series("<script>", [1.0], "edge")], [Mark("</svg>", 1, "x")], str, str)
    ET.fromstring(drawing)
    assert "<script>" not in drawing


def test_the_ledger_figure_names_every_state_that_occurs():
    counts = LedgerCounts(10, 0, {ItemState.PASSED: 990, ItemState.REVIEWED: 9, ItemState.SHED: 1})
    drawing = ledger_figure.figure("t", counts)
    words = [text.text for text in ET.fromstring(drawing).iter("text")]
    assert {"passed 990", "reviewed 9", "shed 1", wording.count(1000)} <= set(words)
    assert not any("expired" in word for word in words)
    nodes = [float(rect.get("height")) for rect in ET.fromstring(drawing).iter("rect")]
    assert nodes[0] == pytest.approx(sum(nodes[1:]), abs=0.3)
    assert min(nodes) >= 3


def test_an_empty_ledger_draws_no_band():
    assert "No item" in ledger_figure.figure("t", LedgerCounts(0, 0, {}))


def test_checks_hold_for_a_closed_run_and_name_what_does_not(draw, drawn_run):
    assert all(check.holds for check in ledger_figure.checks(drawn_run))
    lost = draw.changed(drawn_run, items=drawn_run.items[1:])
    assert [c.words for c in ledger_figure.checks(lost) if not c.holds] == [
        "71 items in this report = 72 in the device's ledger"
    ]
    told = replace(drawn_run, summary={**drawn_run.summary, "shed": 77, "duplicates": 1})
    failed = [c.words for c in ledger_figure.checks(told) if not c.holds]
    assert any("shed" in words for words in failed)
    assert "duplicates: 1" in failed
    waiting = draw.changed(drawn_run, cloud_ledger=LedgerCounts(0, 0, {ItemState.PENDING: 1}))
    assert len([c for c in ledger_figure.checks(waiting) if not c.holds]) == 2


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("items", 12345, "12\u202f345"),
        ("edge_ms_p99", 98.76, "98.8\u00a0ms"),
        ("evidence_bytes_p50", 2210, "2.2\u00a0KB"),
        ("verdict_accuracy", 0.99999, ">\u00a099.9\u00a0%"),
        ("verdict_accuracy_n", 214, "214"),
        ("detector_map50", 0.912, "91.2\u00a0%"),
        ("reviews_per_s", 41.5, "41.50"),
        ("edge_start_s", 1.9, "1.9\u00a0s"),
        ("edge_rss_mb", 318.4, "318\u00a0MB"),
        ("reviewer", "mini", "mini"),
        ("lost", None, "\u2013"),
    ],
)
def test_figures_read_as_their_key_says(key, value, words):
    assert wording.figure(key, value) == words
