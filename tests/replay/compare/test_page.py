"""The page of a comparison: pictures where recordings can be reached, a line where not, no error in a browser."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from replay.cli import main
from replay.compare.comparison import compare
from replay.compare.page.page import write_page
from replay.compare.sides import read_side
from replay.compare.tolerances import Tolerances
from replay.results.file import digest
from replay.results.records import RunResults
from replay.running.folder import MANIFEST_NAME

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WATCH = """<script>window.faults = [];
addEventListener("error", (event) => faults.push(event.message || event.target.outerHTML.slice(0, 80)), true);
addEventListener("securitypolicyviolation", (event) => faults.push(event.violatedDirective + " " + event.blockedURI));
</script>"""
ACT = """<script>addEventListener("load", () => {
  const seen = (element) => !element.hidden;
  const told = {};
  const count = (name) => { told[name] = [cards.filter(seen).length, rows.filter(seen).length]; };
  const pick = (value) => form.querySelector('[value="' + value + '"]').click();
  count("all");
  pick("new"); count("new"); pick("gone"); count("new or gone"); pick("new"); pick("gone");
  pick("worse"); count("worse"); pick("label"); count("worse and label"); pick("worse"); pick("label");
  pick("crate"); count("crate"); pick("crate"); count("all again");
  pick("time"); told.order = [...deck.children].map((card) => card.dataset.time);
  pick("rank"); told.ranks = [...deck.children].map((card) => card.dataset.rank);
  cards[0].querySelector("svg.cut").dispatchEvent(new MouseEvent("click", {bubbles: true}));
  told.zoom = zoom.open && zoom.querySelectorAll("image").length; zoom.close();
  const dark = () => getComputedStyle(document.body).backgroundColor;
  const one = dark(); document.getElementById("theme").click(); told.themes = [one, dark()];
  told.wide = document.documentElement.scrollWidth > innerWidth;
  told.faults = faults.join("; ");
  document.title = "told " + JSON.stringify(told);
});</script>"""


@pytest.fixture(scope="module")
def swapped(base, planted):
    """What red and blue exchanged came to."""
    return compare(read_side(base), read_side(planted["channels"]), Tolerances())


def visit(page, folder, size):
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={size}", "--virtual-time-budget=3000",
        "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    told = re.search(r"<title>told (\{.*?\})</title>", done.stdout)
    assert told, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    return json.loads(html.unescape(told.group(1)))


@pytest.fixture(scope="module")
def visited(swapped, tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("page")
    page = folder / "compare.html"
    write_page(swapped, page)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<title>", WATCH + "<title>", 1).replace("</body>", ACT + "</body>"), encoding="utf-8")
    return visit(page, folder, "1400,900"), visit(page, folder, "400,800")


def test_nothing_goes_wrong_on_a_desk_or_a_phone(visited):
    desk, phone = visited
    assert desk["faults"] == phone["faults"] == ""
    assert desk["wide"] is phone["wide"] is False
    assert desk["zoom"] == 1
    assert desk["themes"][0] != desk["themes"][1]


def test_filters_agree_with_the_comparison(swapped, visited):
    told, changes = visited[0], swapped.changes
    kinds = [change.kinds for change in changes]
    assert told["all"] == told["all again"] == [min(60, len(changes)), len(changes)]
    assert told["new"][1] == kinds.count(("new",)) > 0
    assert told["new or gone"][1] == kinds.count(("new",)) + kinds.count(("gone",))
    worse = [change for change in changes if change.turned == "worse"]
    assert told["worse"][1] == len(worse) > 0
    assert told["worse and label"][1] == sum("label" in change.kinds for change in worse)
    assert told["crate"][1] == sum(change.item.label == "crate" for change in changes)


def test_the_worst_comes_first_and_time_can_be_asked_for(swapped, visited):
    assert [int(rank) for rank in visited[0]["ranks"]] == list(range(1, 61))
    times = [int(time) for time in visited[0]["order"]]
    assert times == sorted(times)
    weights = [change.weight for change in swapped.changes]
    assert weights == sorted(weights, reverse=True)


def test_pictures_of_both_runs_where_they_read_other_recordings(swapped, tmp_path):
    page = tmp_path / "page.html"
    write_page(swapped, page, max_cards=5)
    text = page.read_text()
    assert text.count("data:image/jpeg") == 10
    assert text.count('class="outline before"') + text.count('class="outline after"') == 2 * sum(
        bool(change.before) + bool(change.after) for change in swapped.changes[:5]
    )
    assert 'data-cause="channels"' in text
    assert "http" not in text.split("<main", 1)[1].replace("http-equiv", "")


def test_one_picture_where_both_read_the_same(base, planted, tmp_path):
    found = compare(read_side(base), read_side(planted["engine"]), Tolerances())
    page = tmp_path / "page.html"
    write_page(found, page, max_cards=5)
    assert page.read_text().count("data:image/jpeg") == 5


def test_without_recordings_it_says_so(base, planted, tmp_path, capsys):
    """A results file does not say where its recording lies; one that was moved cannot be opened; another is another."""
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "results.json").write_bytes((base / "results.json").read_bytes())
    manifest = json.loads((base / MANIFEST_NAME).read_text())
    for source, words in (
        (None, "does not say where it lies"),
        (str(tmp_path / "nowhere.mcap"), "nowhere.mcap"),
        (json.loads((planted["channels"] / MANIFEST_NAME).read_text())["jobs"][0]["source"], "changed since the run"),
    ):
        if source:
            manifest["jobs"][0]["source"] = source
            (moved / MANIFEST_NAME).write_text(json.dumps(manifest))
        page = tmp_path / "page.html"
        after = tmp_path / "after.json"
        after.write_bytes((planted["engine"] / "results.json").read_bytes())
        assert main(["compare", str(moved), str(after), "--html", str(page)]) == 1
        text = page.read_text()
        assert "No pictures of yard" in text
        assert words in text
        assert "data:image" not in text
    assert "wrote" in capsys.readouterr().out


@pytest.fixture
def rewritten(base, tmp_path):
    """Makes a run of the same recording called otherwise, of which only `items` are left; as a file when `bare`."""

    def make(name, items=slice(None), *, bare=False):
        folder = tmp_path / f"run of {name}"
        folder.mkdir()
        content = json.loads((base / "results.json").read_text())
        del content["sha256"]
        content["items"] = content["items"][items]
        for part in (*content["recordings"], *content["defects"], *content["items"]):
            part["name" if "source" in part else "recording"] = name
        (folder / "results.json").write_text(json.dumps({"sha256": digest(content), **content}))
        manifest = json.loads((base / MANIFEST_NAME).read_text())
        manifest["jobs"][0]["name"] = name
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
        return folder / "results.json" if bare else folder

    return make


def shown(before, after, page):
    found = compare(read_side(before), read_side(after), Tolerances())
    write_page(found, page)
    return found, page.read_text()


@pytest.mark.parametrize("bare", [False, True])
def test_items_only_in_a_run_with_another_name_for_the_recording_have_time_and_picture(rewritten, bare, tmp_path):
    found, text = shown(rewritten("yard", slice(-3), bare=bare), rewritten("patrol"), tmp_path / "page.html")
    assert [change.kinds for change in found.changes] == [("new",)] * 3
    first = min(item.time_ns for item in found.before.results.items)
    times = {f"{(change.item.time_ns - first) / 1e9:.1f} s" for change in found.changes}
    assert set(re.findall(r"<td>([\d.]+ s)</td>", text)) == times != {"0.0 s"}
    assert set(re.findall(r'data-recording="(.*?)"', text)) == {"yard"}
    assert text.count("data:image/jpeg") == 3
    assert "No pictures of" not in text


def test_recordings_of_one_run_alone_have_time_and_picture(base, rewritten, tmp_path):
    """Two recordings against one: the second run's other one is nowhere in the first."""
    two, content = rewritten("other"), json.loads((base / "results.json").read_text())
    del content["sha256"]
    alone = json.loads((two / "results.json").read_text())
    for item in alone["items"]:
        item["id"] = re.sub("/[0-9a-f]{16}/", f"/{'e' * 16}/", item["id"])
    for part in ("recordings", "defects", "items"):
        content[part] += alone[part]
    (two / "results.json").write_text(json.dumps({"sha256": digest(content), **content}))
    found, text = shown(base, two, tmp_path / "page.html")
    assert {change.recording for change in found.changes} == {"other"}
    assert len(set(re.findall(r"<td>([\d.]+ s)</td>", text))) > 5
    assert "No pictures of other: " in text
    assert "changed since the run" in text


def test_runs_that_agree_have_a_page_too(base, rerun, tmp_path):
    page = tmp_path / "page.html"
    assert main(["compare", str(base), str(rerun), "--html", str(page)]) == 0
    text = page.read_text()
    assert "Nothing is beyond tolerance" in text
    assert "No item changed by more than its tolerance" in text


def test_names_are_no_markup(drawn_run, side, tmp_path):
    nasty = "<script>alert(1)</script>"
    items = [replace(item, recording=nasty) for item in drawn_run.items]
    one = replace(drawn_run.recordings[0], name=nasty, items=tuple(items))
    two = replace(one, items=tuple(replace(item, label=nasty) for item in items))
    runs = [RunResults(drawn_run.task, (recording,), {}, {nasty: str(n)}) for n, recording in enumerate((one, two))]
    page = tmp_path / "page.html"
    write_page(compare(*(side(run, nasty) for run in runs), Tolerances()), page)
    assert nasty not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
