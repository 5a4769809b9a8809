"""What is taken away: everything a search finds, with what people said; evidence only when asked."""

import base64
import csv
import io
import json
import sqlite3

import pytest

from cloud_node.console import export
from cloud_node.console.export import COLUMNS
from cloud_node.ledger import Correction
from fusion.wire.convert import evidence_digest

from .conftest import BEGAN_NS, HOSTILE, ITEMS, REFUSED, item


@pytest.fixture
def corrected(ledger):
    ledger.record_correction(Correction(item(2), "ann", BEGAN_NS, {"object": "cone"}, "=HYPERLINK(1)"))


def test_json_lines_are_what_the_search_finds(local, corrected):
    answer = local.get("/export?form=jsonl")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "attachment" in answer.headers["content-disposition"]
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["item"] for one in told] == [str(item(n)) for n in range(ITEMS, 0, -1)]
    assert not any("evidence" in one for one in told)
    assert {one["item"]: one["corrections"] for one in told}[str(item(2))][0]["author"] == "ann"
    (only,) = local.get("/export?form=jsonl&corrected=yes").text.splitlines()
    assert json.loads(only)["item"] == str(item(2))


def test_it_goes_on_page_after_page(local, monkeypatch):
    monkeypatch.setattr(export, "MOST", 5)
    told = [json.loads(line)["item"] for line in local.get("/export?form=jsonl").text.splitlines()]
    assert told == [str(item(n)) for n in range(ITEMS, 0, -1)]


def test_evidence_comes_whole_when_asked(local):
    told = [json.loads(line) for line in local.get("/export?form=jsonl&evidence=yes").text.splitlines()]
    assert len(told) == ITEMS
    for one in told:
        assert evidence_digest(base64.b64decode(one["evidence"])) == one["evidence_sha256"]


def test_csv_has_a_row_each_and_no_formula(local, corrected):
    rows = list(csv.DictReader(io.StringIO(local.get("/export?form=csv").text)))
    assert len(rows) == ITEMS
    assert tuple(rows[0]) == COLUMNS
    by_item = {row["item"]: row for row in rows}
    assert by_item[str(item(2))]["note"] == "'=HYPERLINK(1)"
    assert json.loads(by_item[str(item(2))]["correction"]) == {"object": "cone"}
    assert by_item[str(item(REFUSED))]["reason"] == f"bad: {HOSTILE}"
    assert by_item[str(item(REFUSED))]["verdict"] == ""
    assert by_item[str(item(1))]["answered"] == "2023-11-14T22:14:20Z"


def test_a_damaged_row_is_a_line_and_the_others_follow(local, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MOST", 5)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE outcomes SET reason = 'other' WHERE sequence = 9")
    database.close()
    told = [json.loads(line) for line in local.get("/export?form=jsonl").text.splitlines()]
    assert [one["item"] for one in told if "item" in one] == [str(item(n)) for n in range(ITEMS, 0, -1) if n != 9]
    (error,) = [one["error"] for one in told if "error" in one]
    assert f"{item(9)} is damaged: its digest does not match" in error
    rows = local.get("/export?form=csv").text.splitlines()
    assert len(rows) == 1 + ITEMS
    assert sum(row.startswith("error: ") for row in rows) == 1


def test_damaged_evidence_is_a_line_and_the_others_follow(local, tmp_path):
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE evidence SET blob = x'00' WHERE id = 6")
    database.close()
    told = [json.loads(line) for line in local.get("/export?form=jsonl&evidence=yes").text.splitlines()]
    assert ["evidence" in one for one in told] == [n != 6 for n in range(ITEMS, 0, -1)]
    assert "evidence of " in told[ITEMS - 6]["error"]
    assert len(local.get("/export?form=jsonl").text.splitlines()) == ITEMS


def test_a_ledger_that_is_gone_is_told_in_the_last_line(local, tmp_path):
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("ALTER TABLE outcomes RENAME TO others")
    database.close()
    assert "cannot be read" in json.loads(local.get("/export?form=jsonl").text.splitlines()[-1])["error"]
    assert "error:" in local.get("/export?form=csv").text.splitlines()[-1]


def test_the_form_keeps_the_search_and_a_wrong_form_is_refused(local):
    page = local.get("/export?device=cart-1&slot.object=cone").text
    assert 'name="device" value="cart-1"' in page
    assert 'name="slot.object" value="cone"' in page
    assert local.get("/export?form=exe").status_code == 400
