"""`edge-node spool` on real spools: lists, one item, damage found, a copy while the daemon has it open."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_node import cli
from edge_node.fakes import FakePerception
from edge_node.perception import Look
from edge_node.screener import Decision
from edge_node.spool import GapRecord, ItemRecord, Resume, SampleRecord, Spool
from fusion.types import Box2D, DeviceOpinion, Gap, ItemId, ItemState, Sample, SampleId, SendReason
from fusion.wire.convert import parse_evidence

BOX = Box2D(40, 100, 120, 220)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Three samples of two items each: the second item is sent, 2#2 is answered; a gap in between."""
    opened = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    resume, device = opened.resume("c" * 64, "first"), FakePerception()
    for number in (1, 2, 3):
        sample = Sample(SampleId("cart-1", opened.epoch, number), number * 10**9, {}, None, number)
        look = device.detect(sample)
        sent = ItemId(sample.id, 2)
        decision = Decision(sent, ItemState.PENDING, (SendReason.UNCERTAIN,), number / 10)
        blobs = device.encode(sample, Look((*look.detections, *look.detections)), 0, 7, decision)
        scores = dict(zip(device.classes, map(float, look.detections[0].class_scores), strict=True))
        first = ItemRecord(1, 5, BOX, "drum", 0.9, scores, DeviceOpinion(), ItemState.PASSED)
        second = ItemRecord(
            2,
            7,
            BOX,
            "cone",
            0.4,
            scores,
            DeviceOpinion(),
            ItemState.PENDING,
            decision.reasons,
            number / 10,
            blobs=blobs,
        )
        opened.commit([SampleRecord(number, number * 10**9, {}, Resume(resume.run, 0, number), (first, second))])
    opened.commit([GapRecord(Gap(4, 5, "late"), Resume(resume.run, 0, 5))])
    verdict = {"slots": {"object": {"option": "cone"}, "condition": {"option": "toppled"}}}
    opened.answer(ItemId(SampleId("cart-1", opened.epoch, 2), 2), ItemState.REVIEWED, json.dumps(verdict), "")
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    config = tmp_path / "edge.toml"
    config.write_text(
        f'device = "cart-1"\ntask = "yard"\n[source]\npath = "x.mcap"\n[spool]\npath = "{tmp_path / "spool.db"}"\n'
        '[uplink]\naddress = "127.0.0.1:1"\n'
    )

    def command(what: str, *more: str) -> tuple[int, str, str]:
        code = cli.main(["spool", what, "--config", str(config), *more])
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


def test_the_list_says_what_lies_there_also_while_a_daemon_has_it(spool: Spool, run: Run) -> None:
    code, out, _ = run("list")
    head, *rows = out.splitlines()
    assert code == 0
    assert head.split()[:6] == ["item", "age", "track", "label", "score", "state"]
    assert [row.split()[0] for row in rows] == ["3#1", "3#2", "2#1", "2#2", "1#1", "1#2"]
    assert "object=cone condition=toppled" in rows[3]
    assert "uncertain" in rows[1]
    waiting = [json.loads(line) for line in run("list", "--waiting", "--order", "oldest", "--json")[1].splitlines()]
    assert [entry["item"] for entry in waiting] == ["1#2", "3#2"]
    assert all(entry["state"] == "pending" and entry["held_bytes"] > 0 for entry in waiting)
    best = run("list", "--order", "value", "--limit", "1", "--json")[1]
    assert json.loads(best)["item"] == "3#2"
    assert run("list", "--track", "5", "--state", "passed", "--json")[1].count("\n") == 3
    code, _, error = run("list", "--state", "lost")
    assert code == 2
    assert "--state lost: no state of an item; there are pending" in error


def test_one_item_is_shown_with_its_picture(spool: Spool, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("show", "3#2", "--picture", str(tmp_path / "new" / "item.jpg"))
    assert code == 0
    assert "kept           a picture" in out
    assert "state          pending" in out
    assert (tmp_path / "new" / "item.jpg").read_bytes().startswith(b"picture of cart-1/")
    assert run("show", f"cart-1/{spool.epoch}/3#2")[:2] == run("show", "3#2")[:2]
    code, out, error = run("show", "2#2", "--picture", str(tmp_path / "no.jpg"))
    assert code == 3
    assert "verdict        {'object': 'cone', 'condition': 'toppled'}" in out
    assert "2#2: no picture of it is kept" in error
    for name, told in (("9#1", "9#1: not in the spool"), ("cart-2/x/1#1", "write it as 123#1"), ("3", "123#1")):
        code, _, error = run("show", name)
        assert code == 3
        assert told in error


def test_a_whole_spool_is_whole_and_damage_is_named(spool: Spool, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("check")
    assert (code, out.strip()) == (0, f"{tmp_path / 'spool.db'}: whole; 2 items held, each as it was stored")
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as db:
        (evidence,) = db.execute("SELECT evidence FROM outbox WHERE sequence = 1").fetchone()
        assert parse_evidence(evidence).item.item == 2
        db.execute("UPDATE outbox SET evidence = ? WHERE sequence = 1", (evidence[:-1] + b"\x00",))
        db.execute("UPDATE items SET state = 'pending' WHERE sequence = 2 AND item = 2")
        db.execute("DELETE FROM items WHERE sequence = 3 AND item = 2")
    code, out, error = run("check")
    assert code == 7
    assert "1#2: its evidence is not what was stored" in out
    assert "1 pending items without evidence" in out
    assert "1 held evidence of items that are not there" in out
    assert "3 faults" in error
    code, out, _ = run("show", "1#2")
    assert code == 0
    assert "damaged        " in out


def test_a_damaged_page_is_found(spool: Spool, run: Run, tmp_path: Path) -> None:
    spool.close()
    path = tmp_path / "spool.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page, size = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'items_by_state'").fetchone()[0], 4096
    data = bytearray(path.read_bytes())
    data[(page - 1) * size + 8 : (page - 1) * size + 200] = np.random.default_rng(1).bytes(192)
    path.write_bytes(data)
    code, out, error = run("check")
    assert code == 7
    assert "damaged" in out + error
    assert "Traceback" not in error


def test_a_copy_is_a_spool_and_is_never_written_over(spool: Spool, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "usb" / "copy.db"
    code, told, _ = run("copy", str(out))
    assert code == 0
    assert f"--set spool.path={out}" in told
    assert run("list", "--set", f"spool.path={out}", "--json")[1] == run("list", "--json")[1]
    assert run("check", "--set", f"spool.path={out}")[0] == 0
    assert [path.name for path in out.parent.iterdir()] == ["copy.db"]
    code, _, error = run("copy", str(out))
    assert code == 3
    assert "is there already" in error


def test_a_copy_ends_while_the_daemon_goes_on_writing(spool: Spool, tmp_path: Path, run: Run) -> None:
    resume, done = Resume(1, 0, 5), threading.Event()

    def write() -> None:
        number = 10
        while not done.is_set():
            number += 1
            spool.commit([GapRecord(Gap(number * 10, number * 10, str(number)), resume)])

    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("CREATE TABLE ballast (value BLOB)")
        db.executemany("INSERT INTO ballast VALUES (?)", [(bytes(1 << 20),)] * 30)
    db.close()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        code, _, _ = run("copy", str(tmp_path / "copy.db"))
    finally:
        done.set()
        writer.join()
    assert code == 0
    assert run("check", "--set", f"spool.path={tmp_path / 'copy.db'}")[0] == 0


def test_what_cannot_be_copied_to_is_told_by_name(spool: Spool, run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken.db.part").mkdir()
    code, _, error = run("copy", str(tmp_path / "taken.db"))
    assert code == 3
    assert f"{tmp_path / 'taken.db'}: cannot be written" in error


def test_a_list_of_nothing_is_empty_and_numbers_have_bounds(spool: Spool, run: Run) -> None:
    assert run("list", "--state", "expired", "--json") == (0, "", "")
    for option in ("--limit", "--track"):
        with pytest.raises(SystemExit):
            run("list", option, "9" * 20)


def test_a_spool_that_tells_no_owner_is_one_line(spool: Spool, run: Run, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("DELETE FROM meta WHERE key = 'device'")
    for what in (("show", "1#1"), ("check",)):
        code, _, error = run(*what)
        assert code == 7
        assert "does not tell its device" in error


def test_no_spool_is_one_line(run: Run) -> None:
    for what in (("list",), ("show", "1#1"), ("check",), ("copy", "/nowhere/x.db")):
        code, _, error = run(*what)
        assert code == 7
        assert "no spool there" in error
