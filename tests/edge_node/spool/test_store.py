"""The spool: what was committed is there, the books add up, and damage is met once and told."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_node.config import SpoolSettings
from edge_node.spool import (
    FinishRecord,
    GapRecord,
    ItemRecord,
    OutboxBlobs,
    Resume,
    SampleRecord,
    Spool,
    SpoolFullError,
    Timing,
)
from edge_node.status import spool_status
from fusion.clock import UNSET_NS, ManualClock
from fusion.errors import SpoolError
from fusion.types import (
    Availability,
    Box2D,
    DeviceOpinion,
    Gap,
    ItemState,
    KeptLanes,
    PixelCrop,
    PointCrop,
    SendReason,
    SoundClip,
)

BOX = Box2D(1, 2, 30, 40)
ROOMY = SpoolSettings(keep_free_bytes=0)


def outbox_item(number: int, value: float = 1.0, size: int = 100, profile: str = "p1") -> ItemRecord:
    blobs = OutboxBlobs(bytes([number]) * size, profile, KeptLanes(PixelCrop(b"jpeg" * 5, "jpeg", BOX)), 60, 20)
    reasons = (SendReason.UNCERTAIN,)
    return ItemRecord(
        number,
        number,
        BOX,
        "drum",
        0.5,
        {"drum": 0.5},
        DeviceOpinion(),
        ItemState.PENDING,
        reasons,
        value,
        "",
        None,
        blobs,
    )


def passed_item(number: int) -> ItemRecord:
    return ItemRecord(number, number, BOX, "drum", 0.9, {"drum": 0.9}, DeviceOpinion(), ItemState.PASSED)


def sample(spool: Spool, resume: Resume, items=(), *, ahead: int = 0, state: str = "") -> SampleRecord:
    sequence = spool.next_sequence + ahead
    at = Resume(resume.run, resume.lap, sequence, max(0, sequence - 3), state)
    slots = {"front": (Availability.PRESENT, 0)}
    return SampleRecord(sequence, sequence * 10**8, slots, at, tuple(items), Timing(1, 5, 3, 2))


def open_spool(folder: Path, **more) -> Spool:
    more.setdefault("settings", ROOMY)
    return Spool.open(folder / "spool.db", "cart-1", "yard", **more)


def ids(spool: Spool, **more) -> list[str]:
    return [str(row.item).split("/", 2)[2] for row in spool.pending(**more)]


def test_a_committed_sample_is_there_after_reopening(tmp_path):
    spool = open_spool(tmp_path)
    resume = spool.resume("content", "first")
    assert (resume.cursor, resume.state, resume.finished) == (0, "", False)
    spool.commit([sample(spool, resume, [outbox_item(1), passed_item(2)], state="tracks")])
    epoch = spool.epoch
    spool.close()
    again = open_spool(tmp_path)
    assert again.epoch == epoch
    assert again.next_sequence == 2
    assert again.resume("content", "first") == Resume(resume.run, 0, 1, 0, "tracks")
    assert ids(again) == ["1#1"]
    counts = again.counts()
    assert (counts.samples, counts.gaps, counts.item_total) == (1, 0, 2)
    assert counts.items[ItemState.PENDING] == counts.items[ItemState.PASSED] == 1
    assert again.outbox_bytes == 120
    again.close()


def test_runs_have_their_own_cursors_and_laps(tmp_path):
    spool = open_spool(tmp_path)
    first = spool.resume("a", "first")
    spool.commit([sample(spool, first)])
    assert spool.resume("a", "second").cursor == 0
    assert spool.resume("b", "first").cursor == 0
    lap = spool.next_lap("a", "first")
    assert (lap.lap, lap.cursor) == (1, 0)
    spool.commit([FinishRecord(Resume(lap.run, 1, 7, 7))])
    assert spool.resume("a", "first").finished
    spool.close()


def test_laps_that_are_over_keep_no_state_and_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_node.spool.store._SETTLE_EVERY", 5)
    spool = open_spool(tmp_path, settings=SpoolSettings(history_samples=10, keep_free_bytes=0))
    other = spool.resume("other", "first")
    spool.commit([FinishRecord(Resume(other.run, 0, 3, 3, "tracks"))])
    lap = spool.resume("c", "r")
    for _ in range(40):
        spool.commit([sample(spool, lap, state="tracks")])
        spool.commit([FinishRecord(replace(lap, cursor=1, state="tracks"))])
        lap = spool.next_lap("c", "r")
    assert lap.lap == 40
    kept = spool.query("SELECT content, lap, state, finished FROM runs ORDER BY run")
    assert kept[0] == ("other", 0, "", 1)
    assert len(kept) < 20
    assert {state for *_, state, _ in kept} == {""}
    assert spool.resume("other", "first") == Resume(other.run, 0, 3, 3, "", finished=True)
    assert not spool.query("SELECT 1 FROM samples WHERE run NOT IN (SELECT run FROM runs)")
    spool.close()


def test_of_runs_without_samples_only_the_newest_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_node.spool.runs.KEPT_RUNS", 3)
    spool = open_spool(tmp_path)
    spool.commit([sample(spool, spool.resume("first start", "live"))])
    for start in range(6):
        spool.resume(f"start {start}", "live")
    assert spool.query("SELECT content FROM runs ORDER BY run") == [
        ("first start",), ("start 3",), ("start 4",), ("start 5",),
    ]  # fmt: skip
    spool.close()


def test_an_answer_closes_an_item_once(tmp_path):
    spool = open_spool(tmp_path)
    spool.commit(
        [sample(spool, spool.resume("c", "r"), [replace(outbox_item(1), note="sent at rate lean"), outbox_item(2)])]
    )
    one, two = (row.item for row in spool.pending())
    assert spool.answer(one, ItemState.REVIEWED, '{"slots":{}}')
    assert not spool.answer(one, ItemState.EXPIRED)
    assert spool.answer(two, ItemState.QUARANTINED, None, "not readable")
    assert not spool.answer(type(one)(type(one.sample)("cart-1", "f" * 16, 1), 1), ItemState.REVIEWED)
    assert spool.counts().closed
    assert spool.outbox_bytes == 0
    rows = spool.query("SELECT state, note, verdict FROM items ORDER BY item")
    assert rows == [("reviewed", "sent at rate lean", '{"slots":{}}'), ("quarantined", "not readable", None)]
    spool.close()


def test_pending_is_in_order_paged_and_by_trunk(tmp_path):
    spool = open_spool(tmp_path)
    resume = spool.resume("c", "r")
    for n in range(1, 4):
        spool.commit([sample(spool, resume, [outbox_item(1, profile="old" if n == 1 else "new"), outbox_item(2)])])
    rows = spool.pending(limit=3)
    assert ids(spool, after=rows[-1].id) == ["2#2", "3#1", "3#2"]
    assert ids(spool, profiles=["new"]) == ["2#1", "3#1"]
    assert spool.profiles() == ["new", "old", "p1"]
    assert [row.sent_before for row in spool.pending(limit=1)] == [True]
    spool.close()


def test_an_item_that_repeats_another_keeps_its_reasons(tmp_path):
    spool = open_spool(tmp_path)
    again = replace(passed_item(1), state=ItemState.DEDUPLICATED, reasons=(SendReason.SUSPECT, SendReason.NOVEL))
    spool.commit([sample(spool, spool.resume("c", "r"), [again])])
    assert spool.query("SELECT state, reasons FROM items") == [("deduplicated", "suspect,novel")]
    spool.close()


def test_a_crop_is_kept_until_the_answer(tmp_path):
    spool = open_spool(tmp_path)
    spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
    (row,) = spool.pending()
    assert spool.kept(row.item).pixels == PixelCrop(b"jpeg" * 5, "jpeg", BOX)
    assert spool.query("SELECT pixels_sent FROM items") == [(1,)]
    spool.answer(row.item, ItemState.REVIEWED, "{}")
    assert spool.kept(row.item).pixels is None
    spool.close()


def test_a_flipped_bit_is_quarantined_and_told(tmp_path):
    spool = open_spool(tmp_path)
    spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1), outbox_item(2), outbox_item(3)])])
    spool._db.execute("UPDATE outbox SET evidence = zeroblob(100) WHERE item = 1")
    spool._db.execute('UPDATE outbox SET crop_form = \'{"encoding":"jpeg","area":[0,0,1,1]}\' WHERE item = 2')
    assert ids(spool) == ["1#3"]
    assert spool.counts().items[ItemState.QUARANTINED] == 2
    assert len(spool.notices) == 2
    assert "damaged on disk" in spool.notices[0]
    spool.close()


def test_the_cap_sheds_the_lowest_value_that_never_left(tmp_path):
    spool = open_spool(tmp_path, settings=SpoolSettings(max_bytes=4096, keep_free_bytes=0))
    resume = spool.resume("c", "r")
    spool.commit([sample(spool, resume, [outbox_item(n, value=n, size=980) for n in (1, 2, 3, 4)])])
    assert spool.outbox_bytes == 4000
    assert ids(spool, limit=1) == ["1#1"]  # the lowest value, but it is on its way
    spool.commit([sample(spool, resume, [outbox_item(1, value=2.5, size=980)])])
    assert ids(spool) == ["1#1", "1#3", "1#4", "2#1"]
    spool.commit([sample(spool, resume, [outbox_item(1, value=0.5, size=980)])])
    assert ids(spool) == ["1#1", "1#3", "1#4", "2#1"]
    assert spool.counts().items[ItemState.SHED] == 2
    assert spool.query("SELECT DISTINCT note FROM items WHERE state = 'shed'") == [("the spool is full",)]
    assert spool.outbox_bytes <= 4096
    spool.close()


def test_the_reserve_of_the_disk_is_kept(tmp_path):
    hungry = SpoolSettings(keep_free_bytes=shutil.disk_usage(tmp_path).total)
    spool = open_spool(tmp_path, settings=hungry)
    spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
    assert spool.counts().items[ItemState.SHED] == 1
    spool.close()


def test_a_full_disk_refuses_the_commit_and_keeps_the_books(tmp_path):
    spool = open_spool(tmp_path)
    resume = spool.resume("c", "r")
    spool.commit([sample(spool, resume, [outbox_item(1)])])
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    spool._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpoolFullError, match="the disk is full"):
        spool.commit([sample(spool, resume, [outbox_item(1, size=200_000)])])
    assert (spool.next_sequence, spool.outbox_bytes, spool.counts().samples) == (2, 120, 1)
    spool._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    spool.commit([sample(spool, resume, [outbox_item(1, size=200_000)])])
    assert spool.counts().samples == 2
    spool.close()


def test_deadlines_expire_only_what_never_left(tmp_path):
    clock = ManualClock(10**12)
    spool = open_spool(tmp_path, clock=clock)
    resume = spool.resume("c", "r")
    spool.commit([sample(spool, resume, [outbox_item(1), outbox_item(2)])])
    spool.pending(limit=1)
    clock.advance(5 * 10**9)
    spool.commit([sample(spool, resume, [outbox_item(1)])])
    assert spool.expire(4 * 10**9) == 1
    assert ids(spool) == ["1#1", "2#1"]
    assert spool.counts().items[ItemState.EXPIRED] == 1
    spool.close()


def test_age_goes_on_over_a_restart_and_a_clock_that_went_back(tmp_path):
    spool = open_spool(tmp_path, clock=ManualClock(10**12))
    spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
    spool.close()
    later = open_spool(tmp_path, clock=ManualClock(10**12 + 9))
    assert later.now_ns() - later.query("SELECT created_ns FROM outbox")[0][0] == 9
    later.close()
    earlier = open_spool(tmp_path, clock=ManualClock(5))
    assert earlier.now_ns() >= earlier.query("SELECT created_ns FROM outbox")[0][0]
    assert earlier.pending()[0].committed_ns <= 5
    earlier.close()


def test_what_was_kept_before_the_clock_was_set_ages_only_while_the_daemon_runs(tmp_path):
    second, day = 10**9, 86_400 * 10**9
    clock = ManualClock(60 * second)  # booted in 1970
    spool = open_spool(tmp_path, clock=clock)
    for _ in range(2):
        spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
        clock.advance(30 * second)
    spool.close()
    clock = ManualClock(UNSET_NS + 2000 * day)  # started anew with the clock set
    for _ in range(2):
        spool = open_spool(tmp_path, clock=clock)
        assert spool.oldest_wait_s() == clock.now_ns / 1e9 - (UNSET_NS + 2000 * day - 30 * second) / 1e9
        assert spool.expire(day) == 0
        assert spool.query("SELECT decided_ns FROM items") == spool.query("SELECT created_ns FROM outbox")
        clock.advance(second * 1024)
        spool.close()
    clock.advance(day - 2060 * second)  # the older one is a day and 18 s old now
    spool = open_spool(tmp_path, clock=clock)
    assert spool.expire(day) == 1
    spool.close()


def test_gaps_are_counted_and_joined(tmp_path):
    spool = open_spool(tmp_path)
    resume = spool.resume("c", "r")
    for cursor in (3, 4, 6):
        spool.commit([GapRecord(Gap(cursor, cursor, "late"), Resume(resume.run, 0, cursor + 1, 0))])
    spool.declare_gap(Gap(10, 19, "power"))
    assert spool.query("SELECT first, last, count, reason FROM gaps ORDER BY id") == [
        (3, 4, 2, "late"),
        (6, 6, 1, "late"),
        (10, 19, 10, "power"),
    ]
    assert spool.counts().gaps == 13
    assert spool.resume("c", "r").cursor == 7
    spool.close()


def test_history_is_folded_and_the_totals_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_node.spool.store._SETTLE_EVERY", 5)
    spool = open_spool(tmp_path, settings=SpoolSettings(history_samples=10, keep_free_bytes=0))
    resume = spool.resume("c", "r")
    for n in range(60):
        items = [passed_item(1), outbox_item(2)] if n == 30 else [passed_item(1)]
        spool.commit([sample(spool, resume, items)])
    counts = spool.counts()
    assert (counts.samples, counts.item_total, counts.items[ItemState.PASSED]) == (60, 61, 60)
    assert spool.query("SELECT min(sequence) FROM samples") == [(31,)]  # the one that waits is kept
    assert ids(spool) == ["31#2"]
    spool.close()


def test_an_item_that_waits_holds_back_no_other_samples(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_node.spool.store._SETTLE_EVERY", 5)
    spool = open_spool(tmp_path, settings=SpoolSettings(history_samples=10, keep_free_bytes=0))
    resume = spool.resume("c", "r")
    spool.commit([sample(spool, resume, [passed_item(1), outbox_item(2)])])
    spool.pending()  # it left the device, and the link goes away
    for _ in range(60):
        spool.commit([sample(spool, resume, [passed_item(1)])])
    kept = [sequence for (sequence,) in spool.query("SELECT sequence FROM samples ORDER BY sequence")]
    assert (kept[0], kept[1] > 45, kept[-1]) == (1, True, 61)
    assert spool.query("SELECT item, state FROM items WHERE sequence = 1") == [(1, "passed"), (2, "pending")]
    assert spool.answer(spool.item_id(1, 2), ItemState.REVIEWED, "{}")
    for _ in range(5):
        spool.commit([sample(spool, resume, [passed_item(1)])])
    assert not spool.query("SELECT 1 FROM items WHERE sequence = 1")
    counts = spool.counts()
    assert (counts.samples, counts.items[ItemState.PASSED], counts.items[ItemState.REVIEWED]) == (66, 66, 1)
    assert spool.resume("c", "r").cursor == spool.next_sequence - 1 == 66
    spool.close()


@pytest.mark.parametrize("seed", range(4))
def test_the_books_are_exact_in_whatever_order_answers_come_and_history_is_folded(tmp_path, monkeypatch, seed):
    monkeypatch.setattr("edge_node.spool.store._SETTLE_EVERY", 3)
    monkeypatch.setattr("edge_node.spool.rows.SETTLE_BATCH", 4)
    draw, settings = random.Random(seed), SpoolSettings(history_samples=5, keep_free_bytes=0)
    folder, states, gaps = tmp_path / "0", Counter(), 0
    spool, waiting = open_spool(folder, settings=settings), []
    for turn in range(1, 150):
        resume, number = spool.resume("c", "r"), spool.next_sequence
        spool.commit([sample(spool, resume, [passed_item(1)] + [outbox_item(2)] * (draw.random() < 0.4))])
        states += Counter(state for (state,) in spool.query(f"SELECT state FROM items WHERE sequence = {number}"))
        waiting += [sequence for (sequence,) in spool.query(f"SELECT sequence FROM outbox WHERE sequence = {number}")]
        if draw.random() < 0.3:
            spool.commit([GapRecord(Gap(turn, turn + 1, f"late {turn}"), spool.resume("c", "r"))])
            gaps += 2
        while waiting and draw.random() < 0.4:
            sequence = waiting.pop(draw.randrange(len(waiting)))
            answer = draw.choice([ItemState.REVIEWED, ItemState.QUARANTINED])
            assert spool.answer(spool.item_id(sequence, 2), answer)
            states += Counter({answer.value: 1, "pending": -1})
        if draw.random() < 0.1:  # what a SIGKILL leaves
            shutil.copytree(folder, tmp_path / str(turn))
            spool.close()
            folder = tmp_path / str(turn)
            spool = open_spool(folder, settings=settings)
        counts = spool.counts()
        assert (counts.samples, counts.gaps) == (turn, gaps)
        assert {state.value: n for state, n in counts.items.items() if n} == {s: n for s, n in states.items() if n}
        assert spool.query("SELECT count(*) FROM samples")[0][0] <= 5 + 3 + 4 + len(waiting)
    assert spool.query("SELECT DISTINCT sequence FROM outbox ORDER BY sequence") == [(s,) for s in sorted(waiting)]
    spool.close()


def test_gaps_are_folded_like_history(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_node.spool.store._SETTLE_EVERY", 5)
    spool = open_spool(tmp_path, settings=SpoolSettings(history_samples=10, keep_free_bytes=0))
    resume = spool.resume("c", "r")
    for n in range(0, 120, 2):  # every other frame is held back, and other sensors deliver in between
        spool.commit([GapRecord(Gap(n, n, "over the power budget"), Resume(resume.run, 0, n, 0))])
        spool.commit([sample(spool, resume)])
    kept = spool.query("SELECT count(*), max(last) FROM gaps")
    assert kept[0][0] <= 15
    assert kept[0][1] == 118
    assert (spool.counts().samples, spool.counts().gaps) == (60, 60)
    spool.close()
    assert "declared gaps 60" in "\n".join(spool_status(tmp_path / "spool.db"))


def test_commit_times_are_written_with_the_next_commit_and_at_the_end(tmp_path):
    spool = open_spool(tmp_path)
    resume = spool.resume("c", "r")
    spool.commit([sample(spool, resume), sample(spool, resume, ahead=1)])
    spool.commit([sample(spool, resume)])
    spool.close()
    db = sqlite3.connect(tmp_path / "spool.db")
    times = [value for (value,) in db.execute("SELECT commit_ns FROM samples ORDER BY sequence")]
    db.close()
    assert all(value > 0 for value in times)
    assert times[0] == times[1]


def test_a_second_daemon_is_refused(tmp_path):
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match=r"spool\.db: used by another edge-node \(process \d+"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


@pytest.mark.parametrize(
    ("device", "task", "named"), [("cart-2", "yard", "device 'cart-1'"), ("cart-1", "pcb", "task 'yard'")]
)
def test_another_devices_or_tasks_spool_is_refused(tmp_path, device, task, named):
    open_spool(tmp_path).close()
    with pytest.raises(SpoolError, match=named):
        Spool.open(tmp_path / "spool.db", device, task)


def test_a_file_that_never_was_a_spool_is_left_alone(tmp_path):
    path = tmp_path / "spool.db"
    path.write_bytes(b"my thesis" * 1000)
    for _ in range(2):
        with pytest.raises(SpoolError, match="not a spool"):
            open_spool(tmp_path)
    assert path.read_bytes() == b"my thesis" * 1000
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE cars (name)")
    db.close()
    with pytest.raises(SpoolError, match="another program"):
        open_spool(tmp_path)


def test_a_sample_out_of_sequence_is_refused(tmp_path):
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match="sample 5 committed where 1 is next"):
        spool.commit([sample(spool, spool.resume("c", "r"), ahead=4)])
    assert spool.counts().samples == 0
    spool.close()


def _three_samples(folder: Path) -> str:
    spool = open_spool(folder)
    resume = spool.resume("c", "r")
    for _ in range(3):
        spool.commit([sample(spool, resume, [outbox_item(n) for n in range(1, 20)], state="tracks")])
    epoch = spool.epoch
    spool.close()
    return epoch


def test_an_overwritten_header_is_set_aside_once(tmp_path):
    epoch = _three_samples(tmp_path)
    with (tmp_path / "spool.db").open("r+b") as file:
        file.write(b"\xff" * 100)
    spool = open_spool(tmp_path)
    assert spool.epoch != epoch
    assert "damaged" in spool.notices[0]
    assert "what it held is unknown" in spool.notices[0]
    assert (tmp_path / "spool.db.damaged-1").exists()
    assert spool.resume("c", "r").cursor == 0
    spool.close()
    again = open_spool(tmp_path)  # not a second time
    assert not again.notices
    again.close()


def test_a_damaged_page_gives_a_new_epoch_a_gap_and_the_old_cursor(tmp_path):
    epoch = _three_samples(tmp_path)
    db = sqlite3.connect(tmp_path / "spool.db")
    page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox_by_value'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    spool = open_spool(tmp_path)
    assert spool.epoch != epoch
    resume = spool.resume("c", "r")
    assert (resume.cursor, resume.state) == (3, "")
    ((first, last, count, reason),) = spool.query("SELECT first, last, count, reason FROM gaps")
    assert (first, last, count) == (1, 3, 3)
    assert epoch in reason
    assert spool.counts().samples == 0
    spool.close()


def test_damage_met_in_use_is_an_error_now_and_set_aside_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_node.spool.files.QUICK_CHECK_BYTES", 0)  # as for a spool too large to check each time
    _three_samples(tmp_path)
    db = sqlite3.connect(tmp_path / "spool.db")
    page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'items'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match="damaged"):
        spool.commit([sample(spool, spool.resume("c", "r"), [passed_item(1)])])
    spool.close()
    again = open_spool(tmp_path)
    assert again.notices
    again.commit([sample(again, again.resume("c", "r"), [passed_item(1)])])
    again.close()


class SpoolMachine(RuleBasedStateMachine):
    """Commits, answers, evictions and kills in any order, against a model that only counts."""

    @initialize()
    def start(self):
        self.folder = Path(self._new_folder())
        self.spool = open_spool(self.folder, settings=self.settings())
        self.epoch = self.spool.epoch
        self.run = self.spool.resume("c", "r")
        self.committed: dict[str, float] = {}
        self.answered: dict[str, ItemState] = {}
        self.taken: set[str] = set()
        self.samples = 0

    def settings(self):
        return SpoolSettings(max_bytes=4096, keep_free_bytes=0)

    def _new_folder(self):
        import tempfile

        return tempfile.mkdtemp(prefix="spool-")

    @rule(values=st.lists(st.lists(st.floats(0, 3), max_size=4), min_size=1, max_size=3))
    def commit(self, values):
        records = []
        for ahead, items in enumerate(values):
            record = sample(self.spool, self.run, [outbox_item(n, v, 380) for n, v in enumerate(items, 1)], ahead=ahead)
            records.append(record)
            self.committed |= {f"{record.sequence}#{n}": v for n, v in enumerate(items, 1)}
        self.spool.commit(records)
        self.samples += len(values)

    @rule(limit=st.integers(1, 5))
    def take(self, limit):
        self.taken |= set(ids(self.spool, limit=limit))

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), state=st.sampled_from([ItemState.REVIEWED, ItemState.QUARANTINED]))
    def answer(self, data, state):
        name = data.draw(st.sampled_from(sorted(self.taken)))
        sequence, number = map(int, name.split("#"))
        fresh = self.spool.answer(self.spool.item_id(sequence, number), state)
        assert fresh == (name not in self.answered)
        self.answered.setdefault(name, state)

    @rule(clean=st.booleans())
    def restart(self, clean):
        if clean:
            self.spool.close()
        else:  # what a SIGKILL leaves: the files as they are
            copy = Path(self._new_folder())
            for file in self.folder.iterdir():
                shutil.copy(file, copy)
            self.spool.close()
            shutil.rmtree(self.folder)
            self.folder = copy
        self.spool = open_spool(self.folder, settings=self.settings())

    @invariant()
    def nothing_is_lost_and_the_books_add_up(self):
        if not hasattr(self, "spool"):
            return
        counts = self.spool.counts()
        assert self.spool.epoch == self.epoch
        assert counts.samples == self.samples == self.spool.next_sequence - 1
        assert counts.item_total == len(self.committed)
        states = {f"{s}#{i}": state for s, i, state in self.spool.query("SELECT sequence, item, state FROM items")}
        waiting = [f"{s}#{i}" for s, i in self.spool.query("SELECT sequence, item FROM outbox ORDER BY id")]
        assert waiting == sorted(waiting, key=lambda name: tuple(map(int, name.split("#"))))
        assert set(waiting) == {name for name, state in states.items() if state == "pending"}
        assert {name for name in states if name in self.answered} == set(self.answered)
        for name, state in states.items():
            if name in self.answered:
                assert state == self.answered[name].value
            elif state == "shed":
                assert name not in self.taken
            else:
                assert state == "pending"
        (held,) = self.spool.query("SELECT coalesce(sum(bytes), 0) FROM outbox")[0]
        assert held == self.spool.outbox_bytes
        unsent = self.spool.query("SELECT count(*) FROM outbox WHERE sent = 0")[0][0]
        assert held <= 4096 or not unsent

    def teardown(self):
        if hasattr(self, "spool"):
            self.spool.close()
            shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


POINTS = PointCrop((1.0, 2.0, 3.0), 0.5, 9, b"points" * 20)
SOUND = SoundClip("wav-mulaw", b"sound" * 30, 16_000, 77)


def with_context(record: ItemRecord) -> ItemRecord:
    kept = replace(record.blobs.kept, points=POINTS, sound=SOUND)
    return replace(record, blobs=replace(record.blobs, kept=kept))


def test_points_and_sound_are_kept_until_the_answer_and_weigh_on_the_cap(tmp_path):
    spool = open_spool(tmp_path)
    spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
    without = spool.outbox_bytes
    spool.commit([sample(spool, spool.resume("c", "r"), [with_context(outbox_item(1))])])
    context = spool.outbox_bytes - 2 * without
    assert 0 <= context - len(POINTS.encoded) - len(SOUND.encoded) < 120  # what describes them
    spool.close()
    spool = open_spool(tmp_path)
    assert spool.outbox_bytes == 2 * without + context
    plain, rich = spool.pending()
    assert spool.kept(plain.item) == KeptLanes(PixelCrop(b"jpeg" * 5, "jpeg", BOX))
    assert spool.kept(rich.item, pixels=False) == KeptLanes(None, POINTS, SOUND)
    assert spool.query("SELECT pixels_sent FROM items ORDER BY sequence") == [(1,), (0,)]
    assert spool.kept(rich.item) == KeptLanes(PixelCrop(b"jpeg" * 5, "jpeg", BOX), POINTS, SOUND)
    spool.answer(rich.item, ItemState.REVIEWED, "{}")
    assert spool.kept(rich.item) == KeptLanes()
    assert spool.outbox_bytes == without
    spool.close()


@pytest.mark.parametrize("place", [0, 20, -1])
def test_damage_to_points_and_sound_costs_them_and_not_the_evidence(tmp_path, place):
    spool = open_spool(tmp_path)
    spool.commit([sample(spool, spool.resume("c", "r"), [with_context(outbox_item(1))])])
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as db:
        damaged = bytearray(db.execute("SELECT context FROM outbox").fetchone()[0])
        damaged[place] ^= 1
        db.execute("UPDATE outbox SET context = ?", (bytes(damaged),))
    db.close()
    spool = open_spool(tmp_path)
    (row,) = spool.pending()
    assert spool.kept(row.item) == KeptLanes(PixelCrop(b"jpeg" * 5, "jpeg", BOX))
    spool.close()


def test_a_spool_from_before_points_and_sound_goes_on(tmp_path):
    spool = open_spool(tmp_path)
    spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("ALTER TABLE outbox DROP COLUMN context")
    db.close()
    spool = open_spool(tmp_path)
    (row,) = spool.pending()
    assert spool.kept(row.item) == KeptLanes(PixelCrop(b"jpeg" * 5, "jpeg", BOX))
    spool.commit([sample(spool, spool.resume("c", "r"), [with_context(outbox_item(1))])])
    _, row = spool.pending()
    assert spool.kept(row.item).sound == SOUND
    assert not spool.notices
    spool.close()


def test_the_oldest_wait_is_that_of_the_oldest_unanswered(tmp_path):
    clock = ManualClock(10**18)
    spool = open_spool(tmp_path, clock=clock)
    assert spool.oldest_wait_s() == 0
    for _ in range(2):
        spool.commit([sample(spool, spool.resume("c", "r"), [outbox_item(1)])])
        clock.advance(2 * 10**9)
    assert spool.oldest_wait_s() == 4
    spool.answer(spool.pending()[0].item, ItemState.REVIEWED, "{}")
    assert spool.oldest_wait_s() == 2
    spool.close()


def test_a_full_spool_lets_go_of_points_and_sound_before_any_evidence(tmp_path):
    room = SpoolSettings(keep_free_bytes=0, max_bytes=4096)
    spool = open_spool(tmp_path, settings=room)
    for _ in range(12):
        number = spool.next_sequence
        record = with_context(outbox_item(1, value=float(number % 5), size=150))
        spool.commit([sample(spool, spool.resume("c", "r"), [record])])
        assert spool.outbox_bytes <= 4096
    counts = spool.counts().items
    assert (counts[ItemState.PENDING], counts[ItemState.SHED]) == (12, 0)
    kept = {row.item.sample.sequence: spool.kept(row.item).sound is not None for row in spool.pending()}
    worth = {there: [number % 5 for number in kept if kept[number] is there] for there in (True, False)}
    assert min(worth[True]) >= max(worth[False])
    assert (
        spool.outbox_bytes
        == spool.query("SELECT sum(length(evidence) + length(crop) + length(context)) FROM outbox")[0][0]
    )
    spool.close()
