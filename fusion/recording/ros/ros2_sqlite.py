"""One SQLite file of a ROS 2 bag (storage plugin `sqlite3` of rosbag2), read without the library that wrote it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fusion.errors import RecordingError
from fusion.recording.native.stream import RawMessage, Wanted
from fusion.recording.ros.source import RosChannel, normal_type

_LIMIT_BYTES = 1 << 30
_MESSAGES = (
    "SELECT rowid, topic_id, timestamp, data FROM messages "
    "WHERE rowid > ? AND topic_id IN (SELECT value FROM json_each(?)) ORDER BY rowid"
)


class SqliteSource:
    """A `.db3` file as a `RosSource`: messages in the order of their row numbers, which are their cursors."""

    format = "rosbag2"

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path, self.damage = path, ""
        self.files: Sequence[Path] = (path,)
        self.notes: Mapping[str, str] = {}
        self._salvage = salvage
        with self._connected() as connection:
            topics = connection.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
            self.channels = {number: _channel(path, number, *rest) for number, *rest in topics}
            try:
                counted = connection.execute(
                    "SELECT topic_id, COUNT(*), MAX(rowid) FROM messages GROUP BY topic_id"
                ).fetchall()
            except sqlite3.DatabaseError as error:
                if not salvage:
                    raise
                self.damage = f"{path}: the messages are damaged ({error})"
                counted = [(number, 0, (1 << 63) - 1) for number in self.channels]
        self.present = frozenset(number for number, _, _ in counted if number in self.channels)
        self.count = sum(count for _, count, _ in counted)
        self.span = max((last for _, _, last in counted), default=0)
        strays = {number for number, _, _ in counted} - self.channels.keys()
        if strays:
            raise RecordingError(f"{path}: messages of topic {min(map(str, strays))}, which the file does not declare")

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        """The wanted messages by row number; rows before are found by the table's key and never read."""
        channels = self.present if wanted.channels is None else wanted.channels & self.present
        try:
            with self._connected() as connection:
                for row in connection.execute(_MESSAGES, (max(wanted.after, 0), json.dumps(sorted(channels)))):
                    yield self._message(*row)
        except RecordingError:
            if not self._salvage:
                raise

    def place(self, message: RawMessage) -> str:
        """The message's row."""
        return f"row {message.offset} of {self.path.name}"

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        log = self.path.with_name(self.path.name + "-wal")
        # Without a log to replay, the file is opened as one that never changes, which needs no lock files beside it.
        options = "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"
        try:
            place = f"file:{quote(str(self.path.absolute()))}?{options}"
            with closing(sqlite3.connect(place, uri=True, check_same_thread=False)) as connection:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LIMIT_BYTES)
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's own messages may quote damaged text
            raise RecordingError(f"{self.path}: not a sound SQLite file of a ROS 2 bag ({error})") from None

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
