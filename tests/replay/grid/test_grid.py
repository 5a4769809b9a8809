"""`replay grid` from the command line to its page in a browser."""

import csv
import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

import fusion
from fusion.evaluation.proportion import Proportion
from replay.cli import main
from replay.results.records import Fate
from replay.whatif.grid.page import write_page
from replay.whatif.grid.picture import drawing
from replay.whatif.grid.records import FIGURES, Grid, GridRow
from replay.whatif.grid.run import mark_best

SCENARIOS = """\
[scenario.narrow]
about = "hardly anything leaves"
set = ["edge.screening.budget_bytes_per_s=300", "edge.screening.budget_burst_bytes=2500"]
"""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def ran(cut, tmp_path_factory):
    """The folder of a grid, and what was printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("grid")
    recording = cut(folder / "patrol.mcap", 1, 1.6)
    (folder / "mine.toml").write_text(SCENARIOS)
    arguments = ["grid", str(recording), "--scenarios", str(folder / "mine.toml"), "--out", str(folder / "out")]
    task = shutil.copy(Path(fusion.__file__).parent / "tasks" / "yard.toml", folder / "yard.toml")
    arguments += [
        "--task",
        str(task),
        "--set",
        "edge.screening.seed=2",
        "--vary",
        "edge.screening.uncertain_below=0.1,0.5",
    ]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(arguments) == 0
    return folder / "out", printed.getvalue(), arguments


def test_every_variant_has_its_folder_and_its_row(ran):
    out, _, _ = ran
    grid = json.loads((out / "grid.json").read_text())
    names = ["base", "narrow", "uncertain_below=0.1", "uncertain_below=0.5"]
    assert [one["name"] for one in grid["variants"]] == names
    for one in grid["variants"]:
        results = json.loads((out / one["folder"] / "results.json").read_text())
        summary = json.loads((out / one["folder"] / "summary.json").read_text())
        assert one["results_sha256"] == results["sha256"]
        assert one["figures"]["reviews"] == summary["reviewed"]
        assert one["missed"]["of"] == len(results["defects"]) > 0
        assert one["missed"]["part"] == sum(defect["fate"] != "found" for defect in results["defects"])
        assert set(one["figures"]) == set(FIGURES)
        assert not (out / one["folder"] / "report.html").exists()
    narrow = grid["variants"][1]
    assert narrow["figures"]["bytes_sent"] < grid["variants"][0]["figures"]["bytes_sent"]
    assert narrow["settings"] == {
        "edge.screening.budget_bytes_per_s": "300",
        "edge.screening.budget_burst_bytes": "2500",
    }


def test_a_task_by_file_stays_the_task_of_every_variant(ran):
    out, _, arguments = ran
    told = [json.loads(path.read_text())["task"] for path in out.glob("*/run.json")]
    assert told == [arguments[arguments.index("--task") + 1]] * 4
    assert json.loads((out / "grid.json").read_text())["task"] == "yard"


def test_a_point_that_is_the_base_differs_in_nothing(ran):
    out, _, _ = ran
    *_, last = json.loads((out / "grid.json").read_text())["variants"]
    assert [one["value"] for one in last["differences"].values()] == [0] * len(last["differences"])
    items = [json.loads((out / name / "results.json").read_text())["items"] for name in ("base", "uncertain_below=0.5")]
    assert items[0] == items[1]


def test_the_table_for_programs_says_the_same(ran):
    out, _, _ = ran
    rows = list(csv.DictReader((out / "grid.csv").open()))
    grid = json.loads((out / "grid.json").read_text())
    for row, one in zip(rows, grid["variants"], strict=True):
        assert row["variant"] == one["name"]
        assert int(row["pareto"]) == one["pareto"]
        for name, value in one["figures"].items():
            assert row[name] == ("" if value is None else str(value))


def test_a_person_is_told_in_sentences(ran):
    out, printed, _ = ran
    told = [one["sentence"] for one in json.loads((out / "grid.json").read_text())["variants"]]
    assert all(sentence in printed for sentence in told)
    one = r"missed \d of \d defects \(\d+\xa0% \[\d+, \d+\]\)"
    assert re.match(rf"base: {one}.*sent .* for \d+ reviews", told[0])
    assert re.match(rf"narrow: {one}, \d in base", told[1])
    assert "instead of" in told[1]


def test_what_is_done_is_not_run_again_and_what_is_new_is(ran):
    out, _, arguments = ran
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/recordings/*/ledger.db")}
    digests = [one["results_sha256"] for one in json.loads((out / "grid.json").read_text())["variants"]]
    assert main([*arguments[:-1], "edge.screening.uncertain_below=0.1,0.5,0.9"]) == 0
    after = {path: path.stat().st_mtime_ns for path in out.glob("*/recordings/*/ledger.db")}
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 1
    again = [one["results_sha256"] for one in json.loads((out / "grid.json").read_text())["variants"]]
    assert again[:-1] == digests


def row(name, missed, sent, reviews, fates=None, **more):
    figures = dict.fromkeys(FIGURES, None) | {"missed_share": missed / 14, "bytes_sent": sent, "reviews": reviews}
    counted = fates or {Fate.FOUND: 14 - missed, Fate.UNSEEN: missed}
    return GridRow(name, "", {}, "", figures, Proportion.exact(missed, 14), None, counted, **more)


MADE = Grid("yard", ("drawn",), 60.0, tuple(mark_best([
    row("base", 1, 240_000, 80), row("thin <link>", 4, 30_000, 20), row("wasteful", 4, 200_000, 90),
    row("few", 9, 31_000, 10), row("none", 14, 0, 0),
])))  # fmt: skip


def test_the_best_are_marked():
    assert [one.name for one in MADE.rows if one.best] == ["base", "thin <link>", "few", "none"]


def test_the_picture_has_a_point_a_variant_and_is_a_file_of_its_own():
    root = ET.fromstring(drawing(MADE))
    points = [one for one in root.iter("{http://www.w3.org/2000/svg}circle") if one.get("data-name")]
    assert {one.get("data-name") for one in points} == {one.name for one in MADE.rows}
    assert {one.get("data-name") for one in points if "beaten" in one.get("class")} == {"wasteful"}
    places = {one.get("data-name"): (float(one.get("cx")), float(one.get("cy"))) for one in points}
    assert places["base"][0] > places["wasteful"][0] > places["few"][0] > places["thin <link>"][0]
    assert places["none"][1] < places["few"][1] < places["base"][1]
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "thin <link>" in words


def test_without_known_defects_it_says_so(tmp_path):
    rows = tuple(replace(one, missed=None, figures={**one.figures, "missed_share": None}) for one in MADE.rows)
    grid = replace(MADE, rows=tuple(mark_best(rows)))
    assert "No defect is known" in drawing(grid)
    write_page(grid, tmp_path)
    assert "no defect is known" in (tmp_path / "grid.html").read_text()


ACT = """<script>window.faults = [];
addEventListener("error", (event) => faults.push(event.message || "?"), true);
addEventListener("securitypolicyviolation", (event) => faults.push(event.violatedDirective));
addEventListener("load", () => {
  const told = {};
  const names = () => [...document.querySelectorAll("table.grid tbody tr")].map((row) => row.dataset.name).join(" ");
  const click = (figure) => document.querySelector(`[data-figure="${figure}"]`).click();
  told.first = names(); click("bytes_sent"); told.bytes = names(); click("bytes_sent"); told.down = names();
  click("missed_share"); told.missed = names(); click("verdict_accuracy"); told.unknown = names();
  document.querySelector('[data-column="0"]').click(); told.named = names();
  document.querySelector("circle[data-name=few]").dispatchEvent(new MouseEvent("mouseenter"));
  told.lit = [...document.querySelectorAll("tr.lit")].map((row) => row.dataset.name).join();
  document.getElementById("theme").click(); told.theme = document.documentElement.className;
  told.wide = document.documentElement.scrollWidth > innerWidth;
  const boxes = [...document.querySelectorAll("text.name")].map((one) => one.getBoundingClientRect());
  const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
  told.names = boxes.length; told.over = boxes.some((a, i) => boxes.some((b, k) => i < k && over(a, b)));
  told.faults = faults.join("; "); document.title = "told " + JSON.stringify(told);
});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")
@pytest.mark.parametrize("size", ["1400,900", "400,800"])
def test_the_page_works_in_a_browser(size, tmp_path):
    rows = [
        replace(one, figures={**one.figures, "verdict_accuracy": 0.5 if one.name == "few" else None})
        for one in MADE.rows
    ]
    write_page(replace(MADE, rows=tuple(rows)), tmp_path)
    page = tmp_path / "grid.html"
    page.write_text(page.read_text().replace("<title>", ACT + "<title>", 1))
    done = subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}", "--virtual-time-budget=3000",
         "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found = re.search(r"<title>told (\{.*?\})</title>", done.stdout)
    assert found, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    told = json.loads(html.unescape(found.group(1)))
    assert told["faults"] == ""
    assert told["first"] == "base thin <link> wasteful few none"
    assert told["bytes"] == "none thin <link> few wasteful base"
    assert told["down"] == "base wasteful few thin <link> none"
    assert told["missed"].split()[0] == "base"
    assert told["missed"].split()[-1] == "none"
    assert told["unknown"].split()[0] == "few"
    assert told["named"] == told["first"]
    assert told["lit"] == "few"
    assert told["theme"] in ("dark", "light")
    assert told["wide"] is False
    assert told["names"] == 5
    assert told["over"] is False
