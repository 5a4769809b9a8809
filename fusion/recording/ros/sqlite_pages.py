"""Rows of a damaged SQLite table, taken from the file's pages one by one: what one page lost, the next may have.

Layout: https://www.sqlite.org/fileformat2.html. SQLite itself stops at the first page that is not sound, and takes what
is missing of a page that is cut for zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from fusion.errors import RecordingError

MAGIC = b"SQLite format 3\0"
LAST_ROW = (1 << 63) - 1
_HEADER_BYTES = 100
_LEAF, _INTERIOR = 13, 5
_BEGINS = {_LEAF: 8, _INTERIOR: 12}
"""Where the entries' places begin in a page of each kind."""
_MAX_DEPTH = 20
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_FLOAT = 7
_MAX_ROW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Header:
    """What the beginning of a file tells: a page's bytes, those of them that are used, and how many pages there are."""

    page_bytes: int
    usable_bytes: int
    pages: int

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The header of `path`; None when it is not that of an SQLite file. Raises `RecordingError`."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER_BYTES)
                size = file.seek(0, 2)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
        if len(head) < _HEADER_BYTES or not head.startswith(MAGIC):
            return None
        told, reserved = int.from_bytes(head[16:18], "big"), head[20]
        page_bytes = 1 << 16 if told == 1 else told
        if page_bytes < 512 or page_bytes & (page_bytes - 1) or page_bytes - reserved < 480:
            return None
        counter, pages, valid_for = (int.from_bytes(head[at : at + 4], "big") for at in (24, 28, 92))
        known = pages if counter == valid_for else 0  # programs before SQLite 3.7.0 leave an old number
        return cls(page_bytes, page_bytes - reserved, known or -(-size // page_bytes))


def cut_off(path: Path) -> str:
    """How a file without a write-ahead log is too short for what its header tells; "" when it is not."""
    header, size = Header.read(path), path.stat().st_size
    if header is None or size >= header.pages * header.page_bytes:
        return ""
    return f"cut off at byte {size} of {header.pages * header.page_bytes}"


Row = tuple[Any, ...]
"""A row: its number, then the columns that were asked for."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows that cannot be read: numbered above `after` up to `last`, as far as there were any; if `open`, all behind.

    `why` is of the first of them.
    """

    after: int
    last: int
    why: str
    open: bool = False

    def __str__(self) -> str:
        if self.last - self.after == 1 and not self.open:
            return f"row {self.last} of the messages cannot be read ({self.why}); left out"
        known = f"up to {self.last - self.after} rows, to row {self.last}" if self.last > self.after else ""
        rest = "all rows behind" if self.open else ""
        what = " and ".join(filter(None, (known, rest))) or "no whole row"
        return f"damaged behind row {self.after} ({self.why}); left out: {what}"


class _DamageError(Exception):
    """A page, or a part of it, is not what it should be."""


class TablePages:
    """The rows of the table whose tree of pages begins at `root`: those of its columns that `columns` numbers."""

    def __init__(self, path: Path, root: int, columns: Sequence[int]) -> None:
        header = Header.read(path)
        if header is None:
            raise RecordingError(f"{path}: not an SQLite file")
        self._path, self._header, self._root, self._columns = path, header, root, columns

    def rows(self, after: int, among: Collection[Any] | None) -> Iterator[Row | Lost]:
        """Rows with numbers above `after` in rising order, and between them what is lost; raises `RecordingError`.

        With `among`, those whose first column has another value are passed over.
        """
        try:
            with self._path.open("rb", buffering=0) as file:
                walk = _Walk(file, self._header, self._columns, after, among)
                yield from _joined(walk.page(self._root, 0, LAST_ROW))
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be read ({error.strerror})") from None


def _joined(found: Iterator[Row | Lost]) -> Iterator[Row | Lost]:
    """What is lost between two rows as one, which ends before the second."""
    gap: Lost | None = None
    for one in found:
        if isinstance(one, Lost):
            gap = Lost(gap.after, max(gap.last, one.last), gap.why, one.open) if gap else one
            continue
        if gap is not None:
            yield replace(gap, last=max(gap.last, one[0] - 1))
        gap = None
        yield one
    if gap is not None:
        yield gap


def _lost(low: int, high: int, why: str) -> Lost:
    return Lost(low, low, why, open=True) if high == LAST_ROW else Lost(low, high, why)


class _Walk:
    """One pass over a table's tree."""

    def __init__(
        self, file: BinaryIO, header: Header, columns: Sequence[int], after: int, among: Collection[Any] | None
    ) -> None:
        self._file, self._size, self._usable = file, header.page_bytes, header.usable_bytes
        self._columns, self._after, self._among = columns, after, among
        self._whole = file.seek(0, 2) // self._size
        self._seen: set[int] = set()

    def page(self, number: int, low: int, high: int, depth: int = 0) -> Iterator[Row | Lost]:
        """The rows of the tree below a page that holds those numbered above `low`, up to `high`."""
        where = f"page {number} at byte {max(0, number - 1) * self._size}"
        try:
            data = self._tree_page(number, depth)
        except _DamageError as error:
            yield _lost(low, high, f"{where}: {error}")
            return
        places = struct.unpack_from(f">{_entries(data)}H", data, _BEGINS[data[0]])
        if data[0] == _LEAF:
            yield from self._leaf(data, places, low, high, where)
        else:
            yield from self._interior(data, places, low, high, where, depth)

    def _tree_page(self, number: int, depth: int) -> bytes:
        if depth > _MAX_DEPTH:
            raise _DamageError(f"it is more than {_MAX_DEPTH} pages below the table's first")
        if number in self._seen:
            raise _DamageError("it belongs to two places of the table")
        self._seen.add(number)
        data = self._read(number)
        if data[0] not in _BEGINS:
            raise _DamageError("it is no page of rows")
        if _BEGINS[data[0]] + 2 * _entries(data) > self._usable:
            raise _DamageError(f"it claims to have {_entries(data)} entries")
        return data

    def _interior(
        self, data: bytes, places: Sequence[int], low: int, high: int, where: str, depth: int
    ) -> Iterator[Row | Lost]:
        for place in places:
            try:
                child, key = _unsigned(data, place), _rising(low, _varint(data, place + 4)[0], high)
            except _DamageError as error:
                yield Lost(low, low, f"{where}: {error}")
                continue
            if key > self._after:
                yield from self.page(child, low, key, depth + 1)
            low = key
        yield from self.page(_unsigned(data, 8), low, high, depth + 1)

    def _leaf(self, data: bytes, places: Sequence[int], low: int, high: int, where: str) -> Iterator[Row | Lost]:
        damage = ""
        for place in places:
            try:
                size, at = _varint(data, place)
                number, at = _varint(data, at)
                _rising(low, number, high)
            except _DamageError as error:
                damage = f"{where}: {error}"
                yield Lost(low, low, damage)
                continue
            low, damage = number, ""
            if number <= self._after:
                continue
            try:
                values = self._values(data, at, size)
            except _DamageError as error:
                yield Lost(number - 1, number, f"{where}: {error}")
                continue
            if values is not None:
                yield number, *values
        if damage:
            yield _lost(low, high, damage)

    def _values(self, data: bytes, at: int, size: int) -> tuple[Any, ...] | None:
        """The columns of the row of `size` bytes that begins at `at` of its page; None for one not asked for."""
        if not 0 < size <= min(_MAX_ROW_BYTES, self._whole * self._size):
            raise _DamageError(f"a row of {size} bytes")
        local = self._local(size)
        if at + local > self._usable:
            raise _DamageError("a row that goes beyond its page")
        begin = data[at : at + local]
        fields = _fields(begin)
        if max(self._columns) >= len(fields) or fields[-1][1] != size:
            raise _DamageError(f"a row of {len(fields)} columns and {size} bytes")
        first = fields[self._columns[0]]
        if first[1] > local:
            raise _DamageError("a row whose first columns do not fit into its page")
        if self._among is not None and _value(begin, *first) not in self._among:
            return None
        whole = begin if local == size else begin + self._rest(_unsigned(data, at + local), size - local)
        return tuple(_value(whole, *fields[column]) for column in self._columns)

    def _local(self, size: int) -> int:
        """How many of a row's bytes are in its page; the others are in pages of their own."""
        most = self._usable - 35
        if size <= most:
            return size
        least = (self._usable - 12) * 32 // 255 - 23
        fitting = least + (size - least) % (self._usable - 4)
        return fitting if fitting <= most else least

    def _rest(self, number: int, size: int) -> bytes:
        """The last `size` bytes of a row, which go on from page `number`."""
        parts = bytearray()
        while len(parts) < size:
            page = self._read(number)
            parts += page[4 : min(self._usable, 4 + size - len(parts))]
            number = _unsigned(page, 0)
        if number:
            raise _DamageError(f"its last page goes on at page {number}")
        return bytes(parts)

    def _read(self, number: int) -> bytes:
        """A whole page."""
        if not 0 < number <= self._whole:
            raise _DamageError(f"the file has no page {number}, only {self._whole} whole ones" if number else "no page")
        try:
            self._file.seek((number - 1) * self._size)
            page = self._file.read(self._size)
        except OSError as error:
            raise _DamageError(f"page {number} cannot be read ({error.strerror})") from None
        if len(page) != self._size:
            raise _DamageError(f"page {number} cannot be read whole")
        return page


def _entries(data: bytes) -> int:
    return int.from_bytes(data[3:5], "big")


def _rising(low: int, number: int, high: int) -> int:
    """A row's number, which must be above `low` and at most `high`."""
    if not low < number <= high:
        raise _DamageError(f"row {number} where those from {low + 1} to {high} belong")
    return number


def _unsigned(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        raise _DamageError("an entry that goes beyond its page")
    return int.from_bytes(data[at : at + 4], "big")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, of 64 bits with a sign, and where what follows it begins."""
    value = 0
    for place in range(at, at + 9):
        if place >= len(data):
            raise _DamageError("an entry that goes beyond its page")
        byte = data[place]
        if place == at + 8:
            value = value << 8 | byte
            return value - (1 << 64) if value >> 63 else value, place + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    raise AssertionError("the ninth byte ends it")


def _fields(begin: bytes) -> list[tuple[int, int, int]]:
    """Where each column of a row begins and ends, and its type, told by the row's first bytes."""
    head, at = _varint(begin, 0)
    if not at <= head <= len(begin):
        raise _DamageError(f"a row whose header claims {head} bytes")
    found, place = [], head
    while at < head:
        kind, at = _varint(begin, at)
        length = _INTEGER_BYTES.get(kind, 8 if kind == _FLOAT else (kind - 12) // 2 if kind >= 12 else 0)
        if kind < 0 or kind in {10, 11}:
            raise _DamageError(f"a column of the unknown type {kind}")
        found.append((place, place + length, kind))
        place += length
    if not found or at != head:
        raise _DamageError("a row whose header is no row's")
    return found


def _value(row: bytes, begin: int, end: int, kind: int) -> Any:
    data = row[begin:end]
    if kind in _INTEGER_BYTES:
        return int.from_bytes(data, "big", signed=True)
    if kind >= 12:
        return data if kind % 2 == 0 else data.decode(errors="replace")
    return struct.unpack(">d", data)[0] if kind == _FLOAT else {0: None, 8: 0, 9: 1}[kind]
