"""One SQLite file of a ROS 2 bag (storage plugin `sqlite3` of rosbag2), read without the library that wrote it."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fusion.errors import RecordingError
from fusion.recording.damage import DamageLog
from fusion.recording.native.stream import RawMessage, Wanted
from fusion.recording.ros.source import RosChannel, normal_type
from fusion.recording.ros.sqlite_pages import Header, Lost, TablePages, cut_off

_LIMIT_BYTES = 1 << 30
_ROWS = (
    "FROM messages WHERE rowid > ?1 AND (?2 IS NULL OR topic_id IN (SELECT value FROM json_each(?2))) ORDER BY rowid"
)
_MESSAGES = f"SELECT rowid, topic_id, timestamp, data {_ROWS}"
_ONE = "SELECT rowid, topic_id, timestamp, data FROM messages WHERE rowid = ?"
_NEXT = f"SELECT rowid {_ROWS} LIMIT 1"
_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""SQLite's own messages may quote damaged text."""
_ASKED = ("topic_id", "timestamp", "data")
_TREE = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = 'messages'"
_COLUMNS = "SELECT name, cid FROM pragma_table_info('messages')"
_COUNTED = "SELECT topic_id, COUNT(*), MAX(rowid) FROM messages GROUP BY topic_id"


@dataclass(slots=True)
class _RowLog(DamageLog):
    """What is wrong with a file's rows; `missing` are at most as many as cannot be read."""

    missing: int = 0

    def __str__(self) -> str:
        missing = f"; up to {self.missing} rows are missing in all" if self.missing and self.count > 1 else ""
        return DamageLog.__str__(self) + missing


class SqliteSource:
    """A `.db3` file as a `RosSource`: messages in the order of their row numbers, which are their cursors.

    With `salvage` rows that cannot be read are left out. Rows of a damaged file are then taken from its pages one by
    one; of one with a write-ahead log by SQLite, and what lies behind a damaged page of rows is left out, too.
    """

    format = "rosbag2"

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path, self.damage = path, ""
        self.files: Sequence[Path] = (path,)
        self.notes: Mapping[str, str] = {}
        self._salvage = salvage
        log = path.with_name(path.name + "-wal")
        self._logged = log.is_file() and log.stat().st_size > 0
        self._pages: TablePages | None = None
        cut = "" if self._logged else cut_off(path)
        if cut and not salvage:
            raise self._unsound(cut)
        with self._connected() as connection:
            if salvage:
                connection.execute("PRAGMA writable_schema = ON")  # SQLite then opens a file that is cut off
            topics = connection.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
            self.channels = {number: _channel(path, number, *rest) for number, *rest in topics}
            counted = self._walk(connection, cut) if salvage else connection.execute(_COUNTED).fetchall()
        self.present = frozenset(number for number, _, _ in counted if number in self.channels)
        self.count = sum(count for _, count, _ in counted)
        self.span = max((last for _, _, last in counted), default=0)
        strays = {number for number, _, _ in counted} - self.channels.keys()
        if strays:
            raise RecordingError(f"{path}: messages of topic {min(map(str, strays))}, which the file does not declare")

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        """The wanted messages by row number; rows before are found by the table's key and never read."""
        channels = self.present if wanted.channels is None else wanted.channels & self.present
        after, among = max(wanted.after, 0), json.dumps(sorted(channels))
        with self._connected() as connection:
            if self._salvage:
                yield from self._sound(connection, after, among, _RowLog())
                return
            for row in connection.execute(_MESSAGES, (after, among)):
                yield self._message(*row)

    def place(self, message: RawMessage) -> str:
        """The message's row."""
        return f"row {message.offset} of {self.path.name}"

    def _walk(self, connection: sqlite3.Connection, cut: str) -> list[tuple[int, int, int]]:
        """What `_COUNTED` tells, of the rows that can be read; the others become `damage`."""
        if not cut:
            try:
                return self._survey(connection, "")
            except _SQLITE_ERRORS:
                pass
        self._pages = self._table(connection)
        return self._survey(connection, cut and f"{self.path}: {cut}")

    def _table(self, connection: sqlite3.Connection) -> TablePages:
        roots, places = connection.execute(_TREE).fetchall(), dict(connection.execute(_COLUMNS).fetchall())
        if len(roots) != 1 or not isinstance(roots[0][0], int) or not places.keys() >= set(_ASKED):
            raise self._unsound(f"no table of messages with the columns {', '.join(_ASKED)}")
        return TablePages(self.path, roots[0][0], [places[name] for name in _ASKED])

    def _survey(self, connection: sqlite3.Connection, cut: str) -> list[tuple[int, int, int]]:
        log, counts, last = _RowLog(), Counter[int](), dict[int, int]()
        for message in self._sound(connection, 0, None, log):
            counts[message.channel] += 1
            last[message.channel] = message.cursor
        self.damage = "; ".join(filter(None, (cut, str(log))))
        return [(number, count, last[number]) for number, count in counts.items()]

    def _sound(
        self, connection: sqlite3.Connection, after: int, among: str | None, log: _RowLog
    ) -> Iterator[RawMessage]:
        """Messages behind the row `after` of the topics `among` (None: of all); rows left out are noted in `log`."""
        rows = self._of_pages(after, among, log) if self._pages else self._readable(connection, after, among, log)
        for row in rows:
            try:
                yield self._checked(after, row)
            except RecordingError as error:
                log.add(f"{error}; left out")
            after = max(after, row[0])

    def _of_pages(self, after: int, among: str | None, log: _RowLog) -> Iterator[tuple[Any, ...]]:
        """Rows of `_MESSAGES`, as many as the file's pages hold."""
        assert self._pages is not None, "it was found to be damaged"
        for found in self._pages.rows(after, None if among is None else frozenset(json.loads(among))):
            if isinstance(found, Lost):
                log.add(f"{self.path}: {found}")
                log.missing += found.last - found.after
            else:
                yield found

    def _readable(
        self, connection: sqlite3.Connection, after: int, among: str | None, log: _RowLog
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of `_MESSAGES`: behind one whose bytes cannot be had it goes on, where none can be found it ends.

        Without a write-ahead log it raises SQLite's error.
        """
        while True:
            try:
                for row in connection.execute(_MESSAGES, (after, among)):
                    yield row
                    after = max(after, row[0])
            except _SQLITE_ERRORS as error:
                if not self._logged:
                    raise
                problem = error
            else:
                return
            # The row before the one that failed may not have been handed out: sqlite3 looks one ahead.
            found = self._next(connection, after, among)
            if found <= after:
                log.add(f"{self.path}: damaged behind row {after} ({problem}); left out")
                return
            after = found
            try:
                rows = connection.execute(_ONE, (after,)).fetchall()
            except _SQLITE_ERRORS as error:
                rows, problem = [], error
            if not rows:
                log.add(f"{self.path}: row {after} of the messages cannot be read ({problem}); left out")
            yield from rows

    def _next(self, connection: sqlite3.Connection, after: int, among: str | None) -> int:
        """The next row of the topics `among`; 0 where it cannot be found."""
        try:
            row = connection.execute(_NEXT, (after, among)).fetchone()
        except _SQLITE_ERRORS:
            return 0
        return int(row[0]) if row else 0

    def _checked(self, after: int, row: tuple[Any, ...]) -> RawMessage:
        number, topic = row[:2]
        if number <= after:
            raise RecordingError(f"{self.path}: row {number} of the messages comes behind row {after}")
        if topic not in self.channels:
            raise RecordingError(
                f"{self.path}: row {number} of the messages is of topic {topic}, which the file does not declare"
            )
        return self._message(*row)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # Without a log to replay, the file is opened as one that never changes, which needs no lock files beside it.
        options = "mode=ro" if self._logged else "mode=ro&immutable=1"
        try:
            place = f"file:{quote(str(self.path.absolute()))}?{options}"
            with closing(sqlite3.connect(place, uri=True, check_same_thread=False)) as connection:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LIMIT_BYTES)
                yield connection
        except _SQLITE_ERRORS as error:
            raise self._unsound(str(error)) from None

    def _unsound(self, why: str) -> RecordingError:
        rescue = "" if self._salvage or Header.read(self.path) is None else "; salvage reads what is sound of it"
        return RecordingError(f"{self.path}: not a sound SQLite file of a ROS 2 bag ({why}){rescue}")

    def _message(self, row: Any, topic: Any, time_ns: Any, data: Any) -> RawMessage:
        if not isinstance(time_ns, int) or not isinstance(data, bytes):
            raise RecordingError(
                f"{self.path}: row {row} of the messages holds {type(time_ns).__name__}, {type(data).__name__} "
                "where a time and bytes belong"
            )
        return RawMessage(row, row, topic, time_ns, memoryview(data))


def _channel(path: Path, number: Any, topic: Any, kind: Any, encoding: Any) -> RosChannel:
    if not (isinstance(number, int) and all(isinstance(part, str) for part in (topic, kind, encoding))):
        raise RecordingError(f"{path}: row {number} of the topics is malformed")
    return RosChannel(topic, normal_type(kind), encoding)
