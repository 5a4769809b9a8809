"""The page in a real browser: no script error, filters and sample browser do what they say, everybody can use it."""

import os
import shutil
from collections import Counter

import pytest

from fusion.types import ItemState
from replay.report.page import Shown, write_report
from replay.report.utterances import utterances
from replay.results.answers import Outcome, outcome
from replay.results.frames import FrameIndex
from replay.results.records import Fate, RunResults
from replay.results.rivals import RivalBytes
from replay.results.summary import summarize

from ..accessibility import CONTRAST, TROUBLE

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")
PHONE = {"width": 390, "height": 800}
NAMES = ("north", "south")
PAGE, CARDS = 24, 18


@pytest.fixture(scope="module")
def chromium():
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory, draw):
    """A run of two recordings with the same times, and its page."""
    recordings = {name: draw.recording(n, width=320, height=192) for n, name in zip((18, 12), NAMES, strict=True)}
    parts = {name: draw.run(recording) for name, recording in recordings.items()}
    told = tuple(draw.judged(part, recordings[name], name) for name, part in parts.items())
    task = parts[NAMES[0]].task
    run = RunResults(task, told, summarize(task, told, RivalBytes()), {"edge.screening.alpha": "0.1"})
    page = tmp_path_factory.mktemp("page") / "report.html"
    shown = {n: Shown(FrameIndex(r, run.task), utterances(r, run.task)) for n, r in recordings.items()}
    write_report(run, page, shown, max_cards=CARDS)
    return run, page


@pytest.fixture
def opened(chromium, report):
    """Opens the report; at the end nothing may have gone wrong in it."""
    faults, contexts = [], []

    def open_it(**options):
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda request: faults.extend([request.url] * request.url.startswith("http")))
        page.goto(report[1].as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert faults == []


def visible(page, css):
    return page.evaluate("css => [...document.querySelectorAll(css)].filter((one) => !one.hidden).length", css)


def rows_of(page):
    return visible(page, ".items tbody tr")


def pick(page, value):
    page.locator(f"#filters label:has([value='{value}'])").click()


def place(page):
    """First, last and number of the samples that the browser shows."""
    return [int(word) for word in page.locator("#place").inner_text().split() if word.isdigit()]


def test_filters_agree_with_the_run(report, opened):
    run, page = report[0], opened()
    wrong = [item for item in run.items if outcome(item) is Outcome.WRONG]
    assert rows_of(page) == len(run.items)
    pick(page, "wrong")
    assert rows_of(page) == len(wrong)
    pick(page, "passed")
    assert rows_of(page) == sum(item.state is ItemState.PASSED for item in wrong)
    page.locator("#filters [type=reset]").click()
    pick(page, "crate")
    pick(page, "cone")
    assert rows_of(page) == sum(item.label in ("crate", "cone") for item in run.items)


def test_one_recording_can_be_chosen_everywhere(report, opened):
    run, page = report[0], opened()
    page.locator("#recording").select_option("south")
    south = run.recordings[1]
    assert rows_of(page) == len(south.items)
    assert visible(page, ".recordings tbody tr") == 1
    assert visible(page, ".line") == 1
    assert visible(page, ".defects tbody tr") == len(south.defects) > 0
    assert place(page)[-1] == len(south.samples)
    cards = page.evaluate("[...document.querySelectorAll('.card')].filter((c) => !c.hidden).map((c) => c.id)")
    assert cards
    assert all(card.startswith("item-south-") for card in cards)


def test_cards_can_be_put_in_order_of_time(opened):
    page = opened()
    pick(page, "time")
    times = page.evaluate("[...document.querySelectorAll('.card')].map((card) => Number(card.dataset.time))")
    assert times == sorted(times)
    assert len(times) == CARDS


def test_every_sample_can_be_reached_page_by_page(report, opened):
    run, page = report[0], opened()
    total = len(run.samples)
    assert place(page) == [1, PAGE, total]
    seen = Counter()
    for _ in range(-(-total // PAGE)):
        seen.update(page.locator(".thumb").evaluate_all("all => all.map((one) => Number(one.dataset.at))"))
        page.locator("[data-turn='1']").click(force=True)
    assert sorted(seen) == list(range(total))
    assert page.locator("[data-turn='1']").is_disabled()


def test_samples_with_a_missed_defect_can_be_asked_for(report, opened):
    run, page = report[0], opened()
    page.locator("#kind").select_option("missed")
    missed = {(d.recording, d.name) for d in run.defects if d.fate is not Fate.FOUND}
    wanted = sum(
        any((one.name, str(thing.track)) in missed for thing in sample.truths)
        for one in run.recordings
        for sample in one.samples
    )
    assert place(page)[-1] == wanted > 0


def test_the_keyboard_alone_walks_through_the_samples(report, opened):
    run, page = report[0], opened()
    focused = "document.activeElement.dataset.at"
    page.locator(".thumb").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "1"
    page.keyboard.press("End")
    assert page.evaluate(focused) == str(len(run.samples) - 1)
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    assert page.evaluate(focused) == str(PAGE)
    page.keyboard.press("Enter")
    assert page.locator("#sample").get_attribute("open") is not None
    page.keyboard.press("ArrowLeft")
    assert f"{PAGE} of {len(run.samples)}" in page.locator("#sample-name").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == str(PAGE - 1)


def test_a_sample_tells_all_its_items_and_shows_their_boxes(report, opened):
    run, page = report[0], opened()
    page.locator(".thumb").nth(3).click()
    sample = run.recordings[0].samples[3]
    items = [item for item in run.recordings[0].items if item.sequence == sample.sequence]
    assert page.locator("#sample-picture image, #sample-picture use").count() == 1
    assert page.locator("#sample-picture .box:not(.truth)").count() == len(items)
    assert page.locator("#sample-picture .truth").count() == len(sample.truths)
    told = page.locator("#sample-words tbody tr").all_inner_texts()
    assert sum(item.label in line for item, line in zip(items, told, strict=False)) == len(items)


def test_a_missed_defect_leads_to_its_sample(report, opened):
    run, page = report[0], opened()
    page.locator("#recording").select_option("south")
    button = page.locator(".defects tbody tr:not([hidden]) .look").last
    button.click()
    assert page.locator("#sample").get_attribute("open") is not None
    assert page.locator("#sample-name").inner_text().startswith(f"{button.get_attribute('data-recording')}, ")
    assert len(run.defects) == page.locator(".defects tbody tr").count()


def test_a_link_from_a_sample_leads_to_the_card(opened):
    page = opened()
    for number in range(PAGE):
        page.locator(".thumb").nth(number).click()
        link = page.locator("#sample-words a")
        if link.count():
            break
        page.keyboard.press("Escape")
    target = link.first.get_attribute("href")
    link.first.click()
    assert page.locator("#sample").get_attribute("open") is None
    assert page.locator(target).is_visible()


def test_a_picture_can_be_enlarged(opened):
    page = opened()
    page.locator(".card svg.crop").first.click()
    assert page.locator("#zoom use").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(opened, scheme):
    page = opened(color_scheme=scheme)
    page.locator(".thumb").first.wait_for()
    beside = ("headings begin", "not one header")  # the title is in the page's header, and each card has one, too
    assert [one for one in page.evaluate(TROUBLE) if not one.startswith(beside)] == []
    contrast = page.evaluate(CONTRAST)
    assert contrast["seen"] > 200
    assert contrast["told"] == []


def test_light_and_dark_can_be_switched(opened):
    page = opened(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.evaluate(paper) != before


def test_a_phone_need_not_scroll_sideways(opened):
    for size in ({}, {"viewport": PHONE}):
        page = opened(**size)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator(".thumb").first.click()
        assert page.evaluate("document.getElementById('sample').scrollWidth <= innerWidth")


def test_scripts_of_others_are_not_run(report, chromium, tmp_path):
    """The page's policy names its own script by digest."""
    evil = tmp_path / "evil.html"
    text = report[1].read_text(encoding="utf-8")
    evil.write_text(text.replace("<main", "<script>document.title = 'taken'</script><main", 1), encoding="utf-8")
    page = chromium.new_page()
    page.goto(evil.as_uri())
    assert page.title() != "taken"
    page.close()


def test_recordings_of_the_same_times_keep_their_own_pictures(report, draw, opened):
    """Both have samples at the same nanoseconds."""
    run, page = report[0], opened()
    pairs = [(item.time_ns, item.recording) for item in run.items if item.verdict]
    both = {time for time, name in pairs if name == "north"} & {time for time, name in pairs if name == "south"}
    used = page.evaluate(
        """() => [...document.querySelectorAll(".card")].map((card) =>
        [card.dataset.recording, card.dataset.time, card.querySelector("use").getAttribute("href")])"""
    )
    shared = [(time, name, href) for name, time, href in used if int(time) in both]
    assert {name for _, name, _ in shared} == set(NAMES)
    owners = {}
    for _, name, href in shared:
        owners.setdefault(href, set()).add(name)
    assert all(len(names) == 1 for names in owners.values())
