"""The durable spool: samples, items, the outbox and the source's cursor in one SQLite file, committed together.

One connection, used from one thread at a time (`worker.SpoolWorker` owns the thread). WAL with
synchronous=FULL: what `commit` returned from survives a kill and a power cut.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from edge_node.config import SpoolSettings
from edge_node.spool import files, lottery, rows, runs
from edge_node.spool.records import FinishRecord, GapRecord, OutboxRow, Record, Resume, SampleRecord, row_digest
from edge_node.spool.schema import SCHEMA
from fusion.clock import Clock, SystemClock
from fusion.errors import SpoolError
from fusion.types import Gap, ItemId, ItemState, KeptLanes, LedgerCounts, SampleId, SampleState, new_epoch

_SETTLE_EVERY = 1000


@dataclass(slots=True)
class Spool:
    """Open it with `Spool.open`. All methods raise `SpoolError` when the disk or the file fails.

    `on_closed` is told of each item that a final state is being written for, before the commit.
    """

    path: Path
    device: str
    task: str
    epoch: str
    settings: SpoolSettings
    clock: Clock
    _db: sqlite3.Connection
    _lock: IO[str]
    _base_ns: int
    _opened_ns: int
    next_sequence: int = 1
    outbox_bytes: int = 0
    notices: list[str] = field(default_factory=list)
    _timed: list[int] = field(default_factory=list)
    _commit_ns: int = 0
    _unsettled: int = 0
    on_closed: Callable[[ItemId], object] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        device: str,
        task: str,
        *,
        settings: SpoolSettings | None = None,
        clock: Clock | None = None,
        epoch: str | None = None,
    ) -> Spool:
        """Open or create the spool at `path`.

        `epoch` is for a new one only, random when None. A damaged file is set aside: the new spool has a new
        epoch, goes on at the old cursor where that could be read, and declares the old samples a gap.
        Raises `SpoolError` when another process holds it or it belongs to another device or task.
        """
        clock = clock or SystemClock()
        held, known = files.lock(path)
        try:
            db, salvage = files.connect(path, known=known)
            with files.translated(path):
                spool = cls._read(path, device, task, settings, clock, epoch, db, held)
            if salvage:
                spool._take_over(salvage)
        except BaseException:
            files.unlock(held, forget=not known)
            raise
        return spool

    @classmethod
    def _read(
        cls,
        path: Path,
        device: str,
        task: str,
        settings: SpoolSettings | None,
        clock: Clock,
        epoch: str | None,
        db: sqlite3.Connection,
        held: IO[str],
    ) -> Spool:
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        if meta.get("schema") != SCHEMA:
            raise SpoolError(
                f"{path}: a spool of version {meta.get('schema')}, this program reads {SCHEMA}; use another"
            )
        wanted = {"device": device, "task": task}
        if "epoch" not in meta:
            meta |= wanted | {"epoch": epoch or new_epoch()}
            born = {**wanted, "epoch": meta["epoch"], "born_ns": str(clock.wall_ns())}
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", born.items())
        for key, value in wanted.items():
            if meta[key] != value:
                raise SpoolError(f"{path}: belongs to {key} {meta[key]!r}, not {value!r}; use another spool.path")
        last = db.execute("SELECT coalesce(max(sequence), 0) FROM samples").fetchone()[0]
        newest = db.execute("SELECT coalesce(max(created_ns), 0) FROM outbox").fetchone()[0]
        spool = cls(
            path, device, task, meta["epoch"], settings or SpoolSettings(), clock, db, held,
            max(clock.wall_ns(), newest), clock.monotonic_ns(), last + 1,
        )  # fmt: skip
        with spool.transaction():
            rows.date_anew(db, spool.now_ns())
        spool.outbox_bytes = db.execute("SELECT coalesce(sum(bytes), 0) FROM outbox").fetchone()[0]
        return spool

    def now_ns(self) -> int:
        """The spool's own time: wall time at opening, never less than any row's, advanced by the monotonic clock. What
        waits since before the clock was set has aged only while the daemon ran.
        """
        return self._base_ns + self.clock.monotonic_ns() - self._opened_ns

    def item_id(self, sequence: int, item: int) -> ItemId:
        """The full id of an item of this spool."""
        return ItemId(SampleId(self.device, self.epoch, sequence), item)

    def resume(self, content: str, name: str) -> Resume:
        """Where the newest lap of this recording's run stands; a run is born on the first call."""
        with self.transaction():
            return runs.newest_lap(self._db, content, name) or runs.begin(self._db, content, name, 0)

    def next_lap(self, content: str, name: str) -> Resume:
        """Begin the same recording again, under a new lap of its run."""
        with self.transaction():
            return runs.begin(self._db, content, name, self.resume(content, name).lap + 1)

    def commit(self, records: Sequence[Record]) -> None:
        """Make the records durable, in order, in one transaction; then the caps and the history are kept."""
        with self.transaction():
            for record in records:
                self._put(record)

    def _put(self, record: Record) -> None:
        if isinstance(record, SampleRecord):
            if record.sequence != self.next_sequence:
                raise SpoolError(f"sample {record.sequence} committed where {self.next_sequence} is next")
            wait_ns = self.clock.monotonic_ns() - record.handed_ns if record.handed_ns else 0
            self.outbox_bytes += rows.insert_sample(self._db, record, self.item_id, self.now_ns(), wait_ns)
            self.next_sequence += 1
            self._timed.append(record.sequence)
            self._unsettled += 1
        elif isinstance(record, GapRecord):
            rows.insert_gap(self._db, record.resume.run, record.gap, self.now_ns())
            self._unsettled += 1
        runs.store_resume(self._db, record.resume, finished=isinstance(record, FinishRecord))
        self._keep_cap()
        if self._unsettled >= _SETTLE_EVERY:
            rows.settle(self._db, self.settings.history_samples)
            self._unsettled = 0

    def note_audit_rate(self, rate: float) -> None:
        """From the next sample on the audit lottery draws with probability `rate`."""
        with self.transaction():
            lottery.note_rate(self._db, rate, self.next_sequence)

    def declare_gap(self, gap: Gap, run: int = 0) -> None:
        """Declare frames that are not going to be samples, without moving a cursor."""
        with self.transaction():
            rows.insert_gap(self._db, run, gap, self.now_ns())

    def pending(self, after: int = 0, limit: int = 64, profiles: Iterable[str] | None = None) -> list[OutboxRow]:
        """Unanswered rows with `id > after`, in order; a row whose digest is wrong is quarantined instead.

        `profiles` restricts to evidence of these trunks. Rows that are returned count as sent: from then on
        only an answer removes them.
        """
        with self.transaction():
            return list(self._pending(after, limit, profiles))

    def _pending(self, after: int, limit: int, profiles: Iterable[str] | None) -> Iterator[OutboxRow]:
        offset = self._base_ns - self._opened_ns
        for row in rows.outbox(self._db, after, limit, profiles):
            item = self.item_id(row.sequence, row.item)
            if row_digest(item, row.evidence, row.crop, row.crop_form) != row.digest:
                self._close_item(item, ItemState.QUARANTINED, "damaged in the spool", None)
                self.notices.append(f"{self.path}: evidence of {item} was damaged on disk; quarantined")
                continue
            if not row.sent:
                self._db.execute("UPDATE outbox SET sent = 1 WHERE id = ?", (row.id,))
            yield OutboxRow(row.id, item, row.evidence, row.created_ns - offset, bool(row.sent))

    def answer(self, item: ItemId, state: ItemState, verdict: str | None = None, note: str = "") -> bool:
        """Close an item with its answer (`verdict` as JSON); False when it was closed already or is not ours.

        The item's own note stays where the answer brings none.
        """
        with self.transaction():
            return self._close_item(item, state, note, verdict)

    def _close_item(self, item: ItemId, state: ItemState, note: str, verdict: str | None) -> bool:
        if (item.sample.device, item.sample.epoch) != (self.device, self.epoch):
            return False
        key = (item.sample.sequence, item.item)
        changed = self._db.execute(
            "UPDATE items SET state = ?, note = iif(? = '', note, ?), verdict = ?, answered_ns = ? "
            "WHERE sequence = ? AND item = ? AND state = ?",
            (state.value, note, note, verdict, self.now_ns(), *key, ItemState.PENDING.value),
        ).rowcount
        freed = self._db.execute("DELETE FROM outbox WHERE sequence = ? AND item = ? RETURNING bytes", key).fetchall()
        self.outbox_bytes -= sum(size for (size,) in freed)
        if changed and self.on_closed:
            self.on_closed(item)
        return changed == 1

    def expire(self, deadline_ns: int) -> int:
        """Expire rows older than `deadline_ns` that never left the device; how many."""
        query = "SELECT sequence, item FROM outbox WHERE sent = 0 AND created_ns < ?"
        with self.transaction():
            late = self._db.execute(query, (self.now_ns() - deadline_ns,)).fetchall()
            for sequence, item in late:
                self._close_item(
                    self.item_id(sequence, item), ItemState.EXPIRED, "no service before the deadline", None
                )
        return len(late)

    def kept(self, item: ItemId, *, pixels: bool = True) -> KeptLanes:
        """What is kept for an unanswered item; nothing when there is nothing (any more) or it is damaged.

        The item counts as one whose pixels were sent, unless `pixels` is false: then they are left out.
        """
        if (item.sample.device, item.sample.epoch) != (self.device, self.epoch):
            return KeptLanes()
        key = (item.sample.sequence, item.item)
        query = "SELECT evidence, crop, crop_form, digest, context FROM outbox WHERE sequence = ? AND item = ?"
        found = self._all(query, key)
        if not found or row_digest(item, *found[0][:3]) != found[0][3]:
            return KeptLanes()
        _, picture, form, _, context = found[0]
        kept = rows.read_kept(item, picture, form, context)
        if not pixels:
            return replace(kept, pixels=None)
        with self.transaction():
            self._db.execute("UPDATE items SET pixels_sent = 1 WHERE sequence = ? AND item = ?", key)
        return kept

    def oldest_wait_s(self) -> float:
        """How long the oldest item has waited for its answer, in seconds; 0 when none waits."""
        oldest = self._all("SELECT created_ns FROM outbox ORDER BY id LIMIT 1")
        return (self.now_ns() - oldest[0][0]) / 1e9 if oldest else 0.0

    def monotonic_of(self, spool_ns: int) -> int:
        """A time of the spool's own (`now_ns`) on this process's monotonic clock."""
        return spool_ns - self._base_ns + self._opened_ns

    def profiles(self) -> list[str]:
        """Trunks whose evidence waits in the outbox."""
        return [name for (name,) in self._all("SELECT DISTINCT profile FROM outbox ORDER BY profile")]

    def waiting(self) -> int:
        """How many items wait for an answer."""
        return int(self._all("SELECT count(*) FROM outbox")[0][0])

    def counts(self) -> LedgerCounts:
        """The ledger's totals, folded history included."""
        totals = dict(self._all("SELECT state, count FROM settled"))
        live = dict(self._all("SELECT state, count(*) FROM items GROUP BY state"))
        samples = self._all("SELECT count(*) FROM samples")[0][0] + totals.get(SampleState.PROCESSED.value, 0)
        gaps = self._all("SELECT coalesce(sum(count), 0) FROM gaps")[0][0] + totals.get(SampleState.GAP.value, 0)
        return LedgerCounts(samples, gaps, {s: live.get(s.value, 0) + totals.get(s.value, 0) for s in ItemState})

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows for a report; see `schema` for the tables."""
        return self._all(sql, parameters)

    def close(self) -> None:
        """Write the last commit's duration, close the file and let others use it."""
        try:
            if self._timed and self._commit_ns:
                with self.transaction():
                    self._write_commit_times()
            self._db.close()
        except SpoolError:
            self._db.close()
        finally:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One durable group: everything inside is committed together or not at all; may be nested."""
        if self._db.in_transaction:
            yield
            return
        kept = (self.next_sequence, self.outbox_bytes, self._timed, self._commit_ns)
        began = self.clock.monotonic_ns()
        try:
            with files.translated(self.path):
                self._db.execute("BEGIN IMMEDIATE")
                self._write_commit_times()
                yield
                self._db.execute("COMMIT")
        except BaseException:
            self.next_sequence, self.outbox_bytes, self._timed, self._commit_ns = kept
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._commit_ns = self.clock.monotonic_ns() - began

    def _write_commit_times(self) -> None:
        """The duration of the previous commit, which its own transaction could not know."""
        if self._timed and self._commit_ns:
            values = [(self._commit_ns, sequence) for sequence in self._timed]
            self._db.executemany("UPDATE samples SET commit_ns = ? WHERE sequence = ?", values)
        self._timed, self._commit_ns = [], 0

    def _keep_cap(self) -> None:
        """Make the outbox fit its cap and the disk's reserve: first without points and sound, then without the
        lowest-value rows that never left the device.
        """
        cap = self.settings.max_bytes
        if self.settings.keep_free_bytes:
            disk = os.statvfs(self.path.parent)
            cap = min(cap, max(0, self.outbox_bytes + disk.f_bavail * disk.f_frsize - self.settings.keep_free_bytes))
        if self.outbox_bytes > cap:
            self.outbox_bytes -= rows.drop_contexts(self._db, self.outbox_bytes - cap)
        query = "SELECT sequence, item FROM outbox WHERE sent = 0 ORDER BY value, id LIMIT 16"
        while self.outbox_bytes > cap and (lowest := self._db.execute(query).fetchall()):
            for sequence, item in lowest:
                if self.outbox_bytes > cap:
                    self._close_item(self.item_id(sequence, item), ItemState.SHED, "the spool is full", None)

    def _take_over(self, salvage: files.Salvage) -> None:
        """Go on where a damaged spool stood, and declare what it held."""
        old = salvage.epoch or "of unknown epoch"
        reason = f"spool {old} was damaged and set aside as {salvage.moved_to.name}"
        with self.transaction():
            for run in salvage.runs:
                self._db.execute("INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, '', ?)", run)
            gap = Gap(1, salvage.last_sequence, reason)
            rows.insert_gap(self._db, 0, gap, self.now_ns())
        known = f"{gap.count} samples are declared a gap" if salvage.last_sequence else "what it held is unknown"
        self.notices.append(f"{self.path}: {reason}; {known}, the new epoch is {self.epoch}")

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with files.translated(self.path):
            return self._db.execute(sql, parameters).fetchall()
