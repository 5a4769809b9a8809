"""The page in a real browser: no script error, and the filters do what they say."""

import re
import shutil
import subprocess

import pytest

from replay.report.page import Shown, write_report
from replay.report.utterances import utterances
from replay.results.frames import FrameIndex

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")

WATCH = """<script>window.faults = [];
addEventListener("error", (event) => faults.push(event.message || event.target.outerHTML.slice(0, 80)), true);
addEventListener("securitypolicyviolation", (event) => faults.push(event.violatedDirective + " " + event.blockedURI));
</script>"""
ACT = """<script>addEventListener("load", () => {
  const seen = (element) => !element.hidden;
  const told = {};
  const count = (name) => { told[name] = cards.filter(seen).length + "/" + rows.filter(seen).length; };
  const pick = (value) => form.querySelector('[value="' + value + '"]').click();
  count("all");
  pick("wrong"); count("wrong"); pick("passed"); count("wrong and passed"); pick("wrong"); pick("passed");
  pick("asked_for"); count("asked for"); pick("asked_for");
  pick("crate"); pick("cone"); count("crate or cone"); pick("crate"); pick("cone");
  pick("time"); told.order = [...deck.children].map((card) => card.dataset.time).join(" ");
  cards[0].querySelector("svg.crop").dispatchEvent(new MouseEvent("click", {bubbles: true}));
  told.zoom = zoom.open && zoom.querySelectorAll("use").length; zoom.close();
  document.getElementById("theme").click(); told.theme = document.documentElement.className;
  told.wide = document.documentElement.scrollWidth > innerWidth;
  told.faults = faults.join("; ");
  document.title = "told " + JSON.stringify(told);
});</script>"""


def visit(page, folder, size="1400,900"):
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={size}", "--virtual-time-budget=3000",
        "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    told = re.search(r"<title>told (\{.*?\})</title>", done.stdout)
    assert told, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    import html
    import json

    return json.loads(html.unescape(told.group(1)))


@pytest.fixture(scope="module")
def visited(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("page")
    draw = request.getfixturevalue("draw")
    recording = draw.recording(24)
    run = draw.run(recording)
    page = folder / "report.html"
    shown = Shown(FrameIndex(recording, run.task), utterances(recording, run.task))
    write_report(run, page, {"drawn": shown})
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<title>", WATCH + "<title>", 1).replace("</body>", ACT + "</body>"), encoding="utf-8")
    return run, visit(page, folder), visit(page, folder, "400,800")


def test_nothing_goes_wrong(visited):
    _, desktop, phone = visited
    assert desktop["faults"] == phone["faults"] == ""
    assert desktop["zoom"] == 1
    assert desktop["theme"] in ("dark", "light")


def test_a_phone_need_not_scroll_sideways(visited):
    _, desktop, phone = visited
    assert desktop["wide"] is phone["wide"] is False


def test_filters_agree_with_the_run(visited):
    from replay.results.answers import Outcome, outcome

    run, told, _ = visited
    rows = {name: int(value.split("/")[1]) for name, value in told.items() if "/" in str(value) and name != "order"}
    wrong = [item for item in run.items if outcome(item) is Outcome.WRONG]
    assert rows["all"] == len(run.items)
    assert rows["wrong"] == len(wrong)
    assert rows["wrong and passed"] == sum(item.state == "passed" for item in wrong)
    assert rows["asked for"] == sum("asked_for" in item.reasons for item in run.items)
    assert rows["crate or cone"] == sum(item.label in ("crate", "cone") for item in run.items)


def test_cards_can_be_put_in_order_of_time(visited):
    times = [int(time) for time in visited[1]["order"].split()]
    assert times == sorted(times)
    assert len(times) == int(visited[1]["all"].split("/")[0])
