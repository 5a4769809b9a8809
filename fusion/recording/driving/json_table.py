"""JSON tables, arrays of flat objects, read one object after the other in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fusion.errors import RecordingError

_BLOCK = 1 << 18
_LONGEST = 1 << 22
"""Characters of the longest object that is read."""
_SPACE = " \t\r\n"


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that holds one JSON array of objects.

    Raises `RecordingError` naming the file and the character at which it is none, or is cut off.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Objects(path, file)
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start} of a block)") from None
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None


class _Objects:
    """Objects of an array; `_start` counts the characters before the buffer."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._buffer, self._at, self._start = "", 0, 0
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._expect("[")
        if self._next() == "]":
            return
        while True:
            yield self._object()
            if self._next() == "]":
                return
            self._expect(",")

    def _object(self) -> dict[str, Any]:
        if self._next() != "{":
            raise self._bad("an object is expected")
        while True:
            try:
                found, self._at = self._decoder.raw_decode(self._buffer, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._buffer) - self._at > _LONGEST or not self._fill():
                    raise self._bad(f"no whole object ({getattr(error, 'msg', error)})") from None
            else:
                assert isinstance(found, dict)
                return found

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise self._bad(f"{mark!r} is expected")
        self._at += 1

    def _next(self) -> str:
        """The next character that is no space, not taken yet; "" at the end of the file."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        block = self._file.read(_BLOCK)
        self._start += self._at
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def _bad(self, what: str) -> RecordingError:
        return RecordingError(f"{self._path}: character {self._start + self._at}: {what}")
