"""The page: complete, self-contained, harmless, and its numbers add up."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusion.errors import InputError
from fusion.task import Task
from fusion.types import Box2D, Image, ItemState, LedgerCounts
from replay.report import wording
from replay.report.album import Album, from_above
from replay.report.cards import corners, crop
from replay.report.page import Shown, write_report
from replay.report.utterances import utterances
from replay.results.answers import verdict_accuracy
from replay.results.frames import FrameIndex, FrameView
from replay.results.records import ItemResult, SampleResult

from .page_text import Page


def render(results, frames, path, said=(), **options):
    write_report(results, path, {"drawn": Shown(frames, said)}, **options)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(draw, tmp_path_factory):
    """The page of `drawn_run`, which is the same whoever makes it."""
    recording = draw.recording()
    run = draw.run(recording)
    path = tmp_path_factory.mktemp("page") / "report.html"
    return render(run, FrameIndex(recording, run.task), path, said=utterances(recording, run.task))


def numbers(text):
    return [int(found.replace("\u202f", "")) for found in re.findall(r"[\d\u202f]+", text)]


def test_every_tag_is_closed(page):
    assert page.unbalanced == []


def test_the_page_needs_no_network(page):
    for tag, attrs, _ in page.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            if name in attrs:
                assert attrs[name].startswith(("data:", "#")), (tag, name, attrs[name][:60])
    assert not page.all("link")
    assert not page.all("iframe")
    policy = next(a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    script = next(text for attrs, text in page.all("script") if not attrs)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert all("url(" not in text and "@import" not in text for _, text in page.all("style"))


def test_both_sums_add_up_to_the_ledgers(page, drawn_run):
    sums = {attrs["data-side"]: numbers(text) for attrs, text in page.all("p", "sum")}
    for side, ledger in (("device", drawn_run.edge_ledger), ("cloud", drawn_run.cloud_ledger)):
        total, *parts = sums[side]
        assert total == sum(parts) == ledger.item_total
        assert len(parts) == 6
    assert sums["device"][2] == drawn_run.edge_ledger.items[ItemState.REVIEWED] == sums["cloud"][2]
    assert page.all("li", "holds")
    assert not page.all("li", "fails")


def test_books_that_do_not_agree_are_shown_as_such(draw, drawn_run, drawn_recording, tmp_path):
    waiting = {**drawn_run.edge_ledger.items, ItemState.PENDING: 2}
    broken = draw.changed(drawn_run, edge_ledger=LedgerCounts(12, 0, waiting))
    page = render(broken, FrameIndex(drawn_recording, drawn_run.task), tmp_path / "r.html")
    failed = [text for _, text in page.all("li", "fails")]
    assert any("still waits" in text for text in failed)
    assert any("74 in the device" in text for text in failed)
    total, *parts = numbers(next(text for a, text in page.all("p", "sum") if a["data-side"] == "device"))
    assert total == sum(parts) == 74
    assert "not closed" in next(text for _, text in page.all("div", "bad"))


def test_every_reviewed_item_has_a_card_with_its_pictures(page, drawn_run):
    cards = {attrs["id"]: attrs for attrs, _ in page.all("article", "card")}
    reviewed = [item for item in drawn_run.items if item.state is ItemState.REVIEWED]
    for item in reviewed:
        attrs = cards[f"item-drawn-{item.sequence}-{item.id.rpartition('#')[2]}"]
        assert attrs["data-state"] == "reviewed"
        assert attrs["data-label"] == item.label
        assert attrs["data-reasons"] == "|".join(item.reasons)
        assert int(attrs["data-bytes"]) == item.evidence_bytes
        right = all(item.verdict[name].option == truth for name, truth in item.truth_answers.items())
        assert attrs["data-outcome"] == ("right" if right else "wrong")
    assert len(page.all("svg", "crop")) == len(page.all("svg", "sweep")) == len(cards)
    moments = {attrs["data-time"] for attrs in cards.values()}
    assert len([a for a, _ in page.all("symbol") if a["id"].startswith("frame-")]) == len(moments)


def test_no_reference_inside_the_page_is_dead(page):
    identities = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(identities) == len(set(identities))
    wanted = {attrs["href"][1:] for _, attrs, _ in page.elements if attrs.get("href", "").startswith("#")}
    assert wanted <= set(identities)
    assert any(name.startswith("item-") for name in wanted)


def test_the_filters_offer_what_occurs(page, drawn_run):
    offered = {attrs["data-filter"] for attrs, _ in page.all("fieldset") if "data-filter" in attrs}
    assert offered == {"outcome", "state", "reasons", "label"}
    values = {attrs["value"] for attrs, _ in page.all("input") if attrs["type"] == "checkbox"}
    assert values >= {item.label for item in drawn_run.items} | {"right", "wrong", "passed", "reviewed", "asked_for"}
    assert len(page.all("tr")) >= len(drawn_run.items)


def test_headline_and_tables_tell_the_run(page, drawn_run):
    tiles = {text.split("\n")[1].strip(): text for _, text in page.all("div", "tile")}
    own = verdict_accuracy(drawn_run.items)
    assert wording.share(own.reviewer) in tiles["Verdict accuracy"]
    assert wording.share(own.device) in tiles["Verdict accuracy"]
    assert f"same {own.n} reviewed" in tiles["Verdict accuracy"]
    assert "0 · 0" in tiles["Lost · twice"]
    for key, value in drawn_run.summary.items():
        shown = [text for attrs, text in page.all("b") if attrs.get("data-key") == key]
        assert shown == [wording.figure(key, value)]


def test_what_was_said_is_told_and_can_be_heard(page):
    said = [text for _, text in page.all("q")]
    assert {"check the left crate", "count the drums"} <= set(said)
    assert all(attrs["src"].startswith("data:audio/wav;base64,") for attrs, _ in page.all("audio"))
    assert len(page.all("audio")) == 2


def test_hostile_words_stay_words(draw, drawn_run, drawn_recording, tmp_path):
    evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>"
    items = [replace(i, label=evil, state_reason=evil, reasons=(evil,), lanes=(evil,)) for i in drawn_run.items]
    truth = {slot.name: evil for slot in drawn_run.task.slots}
    items = tuple(replace(item, truth_answers=truth, device_answers=truth) for item in items)
    drawn_recording.words = lambda index: evil
    results = draw.changed(drawn_run, items=items, split=evil, source=evil)
    results = replace(results, summary={**drawn_run.summary, evil: evil}, settings={evil: evil})
    said = utterances(drawn_recording, drawn_run.task)
    page = render(results, FrameIndex(drawn_recording, drawn_run.task), tmp_path / "r.html", said=said)
    assert page.unbalanced == []
    assert [attrs.get("type") for attrs, _ in page.all("script")] == ["application/json", None]
    assert evil in json.loads(next(text for attrs, text in page.all("script") if attrs))["words"]
    assert not page.all("img")
    assert not [attrs for _, attrs, _ in page.elements if any(name.startswith("on") for name in attrs)]
    assert {attrs["data-label"] for attrs, _ in page.all("article")} == {evil}
    assert evil in [text for _, text in page.all("q")]


def test_too_many_items_are_capped_and_counted(draw, tmp_path):
    recording = draw.recording(60, width=320, height=192)
    run = draw.run(recording)
    page = render(run, FrameIndex(recording, run.task), tmp_path / "r.html", max_cards=10)
    cards = [attrs for attrs, _ in page.all("article", "card")]
    reviewed = run.edge_ledger.items[ItemState.REVIEWED]
    shown = sum(attrs["data-state"] == "reviewed" for attrs in cards)
    assert len(cards) == 10
    lead = next(text for _, text in page.all("p", "lead") if "not shown here" in text)
    assert numbers(lead)[:3] == [shown, reviewed, reviewed - shown]
    assert {attrs["data-outcome"] for attrs in cards} == {"right", "wrong"}


def camera_only_run(draw, count):
    task = Task.load("pcb")
    samples = tuple(SampleResult(i + 1, i + 1, i * 200_000_000, 40.0, 36.0, 2.0, 3.0, {}) for i in range(count))
    items = tuple(
        ItemResult(f"cam/0123456789abcdef/{i + 1}#1", i + 1, i * 200_000_000, 0, Box2D(30, 40, 60, 80), "open", 0.6,
                   ItemState.PASSED, ())
        for i in range(count)
    )  # fmt: skip
    counts = LedgerCounts(count, 0, {ItemState.PASSED: count})
    run = draw.of(task, samples, items, "boards", "test")
    return draw.changed(run, edge_ledger=counts, reviews=())


def test_a_camera_alone_without_truth_or_reviews_makes_a_page(draw, tmp_path):
    picture = Image(np.full((640, 640, 3), 255, np.uint8))
    page = render(camera_only_run(draw, 3), lambda t: FrameView(t, "line", picture), tmp_path / "r.html")
    assert page.unbalanced == []
    assert not page.all("article")
    assert not page.all("audio")
    assert not [a for a, _ in page.all("section") if a.get("id") == "answers"]
    assert len([a for a, _ in page.all("tr") if a.get("data-state") == "passed"]) == 3


def test_an_empty_run_makes_a_page(draw, tmp_path):
    page = render(camera_only_run(draw, 0), lambda t: None, tmp_path / "r.html")
    assert page.unbalanced == []
    assert "No item was sent" in "".join(text for _, text in page.all("p", "none"))


def test_a_moment_without_a_picture_still_has_its_card(drawn_run, tmp_path):
    page = render(drawn_run, lambda t: None, tmp_path / "r.html")
    assert page.all("article", "card")
    assert not page.all("image")


def test_a_place_that_cannot_be_written_is_one_clear_line(drawn_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"r\.html: the report cannot be written"):
        write_report(drawn_run, tmp_path / "file" / "r.html", {"drawn": Shown(lambda t: None)})


def test_pictures_keep_to_their_budget():
    rng = np.random.default_rng(0)
    album = Album(frames=72)
    noise = Image(rng.integers(0, 255, (1080, 1920, 3)).astype(np.uint8))
    picture = album.picture(FrameView(0, "front", noise))
    assert len(picture.data) < 4 / 3 * album.budget / 72 + 100
    assert (picture.width, picture.height) == (1920, 1080)
    assert album.picture(FrameView(0, "front", noise)) is picture
    assert album.byte_size == len(picture.data)


def test_a_recorded_jpeg_is_embedded_as_it_is(drawn_recording):
    image = drawn_recording.image(0)
    data = Album(frames=1).picture(FrameView(0, "front", image)).data
    assert base64.b64decode(data.partition(",")[2]) == image.encoded


def test_points_are_drawn_where_they_are():
    points = np.array([[10.0, 5.0, 1.0, 0.5], [-50.0, 0, 1, 0.5]], np.float32)
    seen = cv2.imdecode(np.frombuffer(from_above(points, 20.0, 4.0), np.uint8), cv2.IMREAD_UNCHANGED)
    rows, columns = np.nonzero(seen[:, :, 3])
    assert seen.shape[1] / 40 * (20 - 10) == pytest.approx(rows.mean(), abs=1.5)
    assert seen.shape[1] / 40 * (20 - 5) == pytest.approx(columns.mean(), abs=1.5)


def test_a_crop_is_a_square_with_the_item_inside_the_picture(drawn_run, drawn_recording):
    picture = Album(1).picture(FrameView(0, "front", drawn_recording.image(0)))
    for item in drawn_run.items:
        area = crop(item.box, picture)
        assert area.x2 - area.x1 == pytest.approx(area.y2 - area.y1, abs=0.2)
        assert area.x1 <= item.box.x1 + 0.1
        assert area.x2 >= item.box.x2 - 0.1
    corner = crop(Box2D(0, 0, 20, 20), picture)
    assert (corner.x1, corner.y1) == (0, 0)


def test_a_box_from_above_faces_its_way(drawn_recording):
    solid = replace(drawn_recording.objects(0)[0].box3d, x=10.0, y=2.0, length=4.0, width=1.0, yaw=np.pi / 2)
    outline = np.array([[float(v) for v in pair.split(",")] for pair in corners(solid).split()])
    assert np.ptp(outline[:, 0]) == pytest.approx(4.0, abs=0.02)
    assert np.ptp(outline[:, 1]) == pytest.approx(1.0, abs=0.02)
    assert outline.mean(0) == pytest.approx([-2.0, -10.0], abs=0.01)
