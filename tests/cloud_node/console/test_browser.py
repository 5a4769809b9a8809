"""The console in a real browser, on a real service process with a filled ledger."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cloud_node.ledger import open_ledger, open_reader
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Submission

from ...accessibility import CONTRAST, TROUBLE
from .conftest import ITEMS, PASSWORD, PICTURE, REFUSED, UNKNOWN, item, path_of

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")

ITEMS_SHOWN = tuple(map(path_of, (1, PICTURE, UNKNOWN, REFUSED)))
PAGES = ("/", "/triage", "/search", "/devices", "/export", *ITEMS_SHOWN)
WAIT_MS = 30_000
DEVICES = ("cart-1", "keys", "plain", "both", "hostile", "left")
"""Tests that change something have the items of a device to themselves."""


@contextmanager
def running(folder, outcomes, *overrides):
    """A service process on a filled ledger; its own address and the console's, and the ledger."""
    ledger = folder / "ledger.db"
    opened = open_ledger(str(ledger))
    for device in DEVICES:
        opened.store([of_device(one, device) for one in outcomes])
    opened.close()
    sets = ['reviewers=["fixed:yard"]', f"ledger={ledger}", "listen=127.0.0.1:0", "console.listen=127.0.0.1:0"]
    sets += ["review.pixel_timeout_ms=0", *overrides]
    command = [sys.executable, "-m", "cloud_node.cli", "serve"]
    command += [part for one in sets for part in ("--set", one)]
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            lines = [process.stdout.readline().split() for _ in range(2)]
            assert lines[1], process.stderr.read()
            yield lines[0][-1], lines[1][-1].rstrip("/"), str(ledger)
        finally:
            process.terminate()
            said = process.communicate(timeout=60)[1]
    assert said == ""


def of_device(outcome, device):
    """The same outcome as if `device` had sent the item."""
    owned = item(outcome.item.sample.sequence, device)
    return replace(outcome, item=owned, verdict=outcome.verdict and replace(outcome.verdict, item=owned))


@pytest.fixture(scope="module")
def chromium():
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory, outcomes):
    with running(tmp_path_factory.mktemp("service"), outcomes) as told:
        yield told


@pytest.fixture
def open_page(chromium):
    """A page of a browser; at the end nothing failed in it, and it asked nobody but the service."""
    opened, faults = [], []

    def make(base, **context):
        browser = chromium.new_context(base_url=base, **context)
        browser.set_default_timeout(WAIT_MS)
        page = browser.new_page()
        page.on("request", lambda one: one.url.startswith(base) or faults.append(f"asked {one.url}"))
        page.on("console", lambda one: one.type == "error" and faults.append(f"console: {one.text}"))
        page.on("pageerror", lambda one: faults.append(f"script: {one}"))
        page.on("dialog", lambda one: faults.append(f"dialog: {one.message}"))
        opened.append(browser)
        page.faults = faults
        return page

    yield make
    for browser in opened:
        browser.close()
    assert faults == []


def corrections(ledger, sequence, device="cart-1"):
    reader = open_reader(ledger)
    try:
        return reader.corrections(item(sequence, device))
    finally:
        reader.close()


def arrives(page, sequence, device):
    page.wait_for_url(f"**{path_of(sequence, device)}?**")


def test_a_reviewer_needs_no_mouse(service, open_page, outcomes):
    _, base, ledger = service
    page = open_page(base)
    page.goto("/triage?device=keys")
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    arrives(page, 11, "keys")
    assert page.evaluate("document.activeElement.name") == "answer.object"
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.name") == "answer.action"
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.type("seen c and s")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    arrives(page, 10, "keys")
    (said,) = corrections(ledger, 11, "keys")
    asked = outcomes[10].verdict.slots["asked"].option
    assert said.answers == {"object": "pallet", "condition": "unsure", "asked": asked, "action": "none"}
    assert (said.author, said.note) == ("local", "seen c and s")
    page.keyboard.press("c")
    arrives(page, 9, "keys")
    assert corrections(ledger, 10, "keys")[0].answers == {n: one.option for n, one in outcomes[9].verdict.slots.items()}
    page.keyboard.press("j")
    arrives(page, 8, "keys")
    page.keyboard.press("k")
    arrives(page, 9, "keys")
    page.keyboard.press("Enter")
    arrives(page, 8, "keys")
    assert len(corrections(ledger, 9, "keys")) == 1


def test_help_is_a_key_away(service, open_page):
    page = open_page(service[1])
    page.goto(path_of(1))
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("c")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert corrections(service[2], 1) == []


def test_everything_works_without_scripts(service, open_page):
    _, base, ledger = service
    page = open_page(base, java_script_enabled=False)
    page.goto("/triage")
    page.get_by_label("Device").fill("plain")
    page.get_by_label("Order").select_option("newest")
    page.get_by_label("State").select_option("reviewed")
    page.get_by_role("button", name="Show").click()
    page.locator("[data-list] tbody a").first.click()
    arrives(page, 11, "plain")
    page.locator("fieldset", has_text="What is it?").get_by_label("cone").check()
    page.get_by_label("Note").fill("by hand")
    page.get_by_role("button", name="Save").click()
    arrives(page, 10, "plain")
    (said,) = corrections(ledger, 11, "plain")
    assert (said.answers["object"], said.note) == ("cone", "by hand")
    page.goto("/")
    assert page.locator("dd", has_text="a second").is_visible()


def test_numbers_move_while_items_are_reviewed(service, open_page, evidence_of):
    address, base, _ = service
    page = open_page(base)
    page.goto("/")
    place = page.locator("[data-live=end_reviewed]")
    assert place.text_content() == "0"

    async def review():
        async with open_channel(address) as channel:
            client = ReviewClient(channel)
            for sequence in range(100, 105):
                await client.review(Submission.of(evidence_of(sequence)))

    with ThreadPoolExecutor(1) as other:
        other.submit(asyncio.run, review()).result(60)
    sync_api.expect(place).to_have_text("5", timeout=WAIT_MS)
    curve = page.locator("[data-points=rate_line]")
    sync_api.expect(curve).to_have_attribute("points", re.compile(r"\S \S"), timeout=WAIT_MS)
    assert page.locator("#stale").is_hidden()


def test_somebody_elses_word_is_told_before_and_at_saving(service, open_page):
    _, base, ledger = service
    mine, theirs = open_page(base), open_page(base)
    mine.goto(path_of(1, "both"))
    theirs.goto(path_of(1, "both"))
    theirs.keyboard.press("c")
    theirs.wait_for_url("**")
    mine.locator("#meanwhile").wait_for(state="visible")
    assert "local said something" in mine.locator("#meanwhile").text_content()
    with mine.expect_response(lambda one: one.request.method == "POST") as posted:
        mine.keyboard.press("c")
    assert posted.value.status == 409
    mine.get_by_role("alert").wait_for()
    mine.faults[:] = [one for one in mine.faults if "409" not in one]  # the browser notes every such status
    assert len(corrections(ledger, 1, "both")) == 1


def test_logins_and_roles(tmp_path, users, outcomes, open_page):
    with running(tmp_path, outcomes, f"console.users={users}") as (_, base, ledger):
        page = open_page(base)
        page.goto(path_of(2))
        page.get_by_label("Name").fill("vic")
        page.get_by_label("Password").fill("not this one")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        page.faults[:] = [one for one in page.faults if "403" not in one]
        assert page.get_by_label("Name").input_value() == "vic"
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"**{path_of(2)}")
        assert page.get_by_text("You may look; a reviewer may correct.").is_visible()
        assert page.locator("#save").count() == 0
        page.keyboard.press("c")
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{base}/")
        page.goto(path_of(2))
        with page.expect_navigation():  # to what comes after it, before the service ends
            page.keyboard.press("c")
        until = time.monotonic() + 30
        while not corrections(ledger, 2) and time.monotonic() < until:
            page.wait_for_timeout(50)
        assert [one.author for one in corrections(ledger, 2)] == ["ann"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_by_everybody(service, open_page, scheme):
    page = open_page(service[1], color_scheme=scheme)
    for address in PAGES:
        page.goto(address)
        assert page.evaluate(TROUBLE) == [], address
        contrast = page.evaluate(CONTRAST)
        assert contrast["told"] == [], address
        assert contrast["seen"] > 10


def test_the_focus_can_be_seen_and_the_content_reached(service, open_page):
    page = open_page(service[1])
    page.goto("/triage")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_a_phone_never_scrolls_sideways(service, open_page):
    page = open_page(service[1], viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    for address in PAGES:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
        assert page.evaluate("innerWidth") == 360, address


def test_hostile_names_and_notes_are_only_text(service, open_page):
    _, base, ledger = service
    page = open_page(base, viewport={"width": 360, "height": 740})
    page.goto(path_of(UNKNOWN, "hostile"))
    note = "<img src=x onerror=alert(1)> \u202e" + "ẞ" * 500 + '"><script>alert(2)</script>'
    page.get_by_label("Note").fill(note)
    page.locator("#save").click()
    page.wait_for_url("**?**")
    page.goto(path_of(UNKNOWN, "hostile"))
    assert page.locator("q").text_content() == note
    assert page.locator("main img").count() == 0
    assert "<script>" in page.locator("h1").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert corrections(ledger, UNKNOWN, "hostile")[0].note == note


def test_heat_and_picture_are_drawn(service, open_page):
    page = open_page(service[1])
    page.goto(path_of(PICTURE))
    loaded = """() => Promise.all([...document.querySelectorAll("svg image")].map((image) => new Promise((done) => {
        const picture = new Image();
        picture.onload = () => done(picture.naturalWidth); picture.onerror = () => done(0);
        picture.src = image.href.baseVal;
    })))"""
    assert page.evaluate(loaded) == [96, 80, 96, 80]
    assert page.locator(".pictures .heat").first.is_visible()
    page.get_by_role("checkbox", name="heat map").uncheck()
    assert page.locator(".pictures .heat").first.is_hidden()
    assert page.locator(".above").get_attribute("aria-label").startswith("From above: 4.0 m ahead, 1.0 m to the left")


def test_what_was_corrected_leaves_the_triage(service, open_page):
    page = open_page(service[1])
    page.goto("/triage?device=left")
    assert page.locator("[data-list] tbody tr").count() == ITEMS
    page.goto(f"{path_of(ITEMS - 1, 'left')}?device=left")
    page.keyboard.press("c")
    arrives(page, ITEMS - 2, "left")
    page.goto("/triage?device=left")
    assert page.locator("[data-list] tbody tr").count() == ITEMS - 1
