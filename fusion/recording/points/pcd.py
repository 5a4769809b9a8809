"""PCD files, the point clouds of PCL (format: its documentation, "The PCD file format", versions .6 and .7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError, RecordingError
from fusion.geometry import rigid
from fusion.recording.native.pose import unit_rotation
from fusion.recording.native.stream import opened
from fusion.recording.points.lzf import unpack_lzf
from fusion.recording.points.point_fields import MAX_POINTS
from fusion.types import Float64Array

_FORMS = ("ascii", "binary", "binary_compressed")
_NUMBERS = {("F", 4): "<f4", ("F", 8): "<f8"} | {
    (kind, size): f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}
_MAX_HEADER_BYTES = 1 << 16
_MAX_FIELDS = 256
_MAX_COUNT = 1 << 16
_MAX_BODY_BYTES = 1 << 30
_MAX_WORD = 64


@dataclass(frozen=True, slots=True)
class PcdField:
    """A field of every point: `number` is numpy's type of its values, `count` how many it has."""

    name: str
    number: str
    count: int

    @property
    def size(self) -> int:
        """Bytes a point."""
        return np.dtype(self.number).itemsize * self.count


@dataclass(frozen=True, slots=True, eq=False)
class PcdHeader:
    """What stands before the points. `viewpoint` (4, 4) is where the sensor was; `body` is the byte points begin at."""

    fields: tuple[PcdField, ...]
    points: int
    viewpoint: Float64Array
    form: str
    body: int

    @property
    def step(self) -> int:
        """Bytes a point."""
        return sum(field.size for field in self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields of one value a point, in order."""
        return tuple(field.name for field in self.fields if field.count == 1)


def read_header(path: Path) -> PcdHeader:
    """The header of a file; raises `RecordingError` naming the line that is wrong."""
    with opened(path) as file:
        return _header(path, file.read(_MAX_HEADER_BYTES))


def read_points(path: Path, names: Sequence[str]) -> NDArray[Any]:
    """The fields `names` of every point, a structured array (N,).

    Raises `RecordingError` when the file has no such field, ends before its last point, or has bytes behind it.
    """
    with opened(path) as file:
        data = file.read(_MAX_HEADER_BYTES + _MAX_BODY_BYTES)
    header = _header(path, data)
    missing = [name for name in names if name not in header.names]
    if missing:
        raise RecordingError(f"{path}: no field {', '.join(missing)}; it has {', '.join(header.names) or 'none'}")
    try:
        return _READ[header.form](header, memoryview(data)[header.body :], names)
    except InputError as error:
        raise RecordingError(f"{path}: byte {header.body}: {error}") from None


def _header(path: Path, data: bytes) -> PcdHeader:
    entries: dict[str, list[str]] = {}
    at = 0
    for number in range(1, 1 + _MAX_FIELDS):
        end = data.find(b"\n", at, _MAX_HEADER_BYTES)
        if end < 0:
            raise RecordingError(f"{path}:{number}: the header ends here, without a line DATA")
        line = data[at:end].decode("ascii", "replace").strip()
        at = end + 1
        key, *values = line.partition("#")[0].split() or [""]
        if key:
            entries.setdefault(key.upper(), values)
        if key.upper() == "DATA":
            try:
                return _parse(entries, at)
            except InputError as error:
                raise RecordingError(f"{path}: in the header: {error}") from None
    raise RecordingError(f"{path}: a header of more than {_MAX_FIELDS} lines")


def _parse(entries: dict[str, list[str]], body: int) -> PcdHeader:
    names = entries.get("FIELDS", entries.get("COLUMNS", []))
    if not 0 < len(names) <= _MAX_FIELDS:
        raise InputError(f"FIELDS names {len(names)} fields")
    sizes = _integers(entries, "SIZE", len(names))
    kinds = entries.get("TYPE", [])
    counts = _integers(entries, "COUNT", len(names)) if "COUNT" in entries else [1] * len(names)
    if len(kinds) != len(names):
        raise InputError(f"TYPE has {len(kinds)} values for {len(names)} fields")
    fields = tuple(_field(*entry) for entry in zip(names, kinds, sizes, counts, strict=True))
    (width,), (height,) = (_integers(entries, key, 1) for key in ("WIDTH", "HEIGHT"))
    (points,) = _integers(entries, "POINTS", 1) if "POINTS" in entries else (width * height,)
    if points != width * height:
        raise InputError(f"POINTS is {points}, but WIDTH x HEIGHT is {width} x {height}")
    if points > MAX_POINTS:
        raise InputError(f"{points} points; at most {MAX_POINTS} are read")
    form = " ".join(entries["DATA"]).lower()
    if form not in _FORMS:
        raise InputError(f"DATA is {form[:32]!r}; {', '.join(_FORMS)} are known")
    header = PcdHeader(fields, points, _viewpoint(entries.get("VIEWPOINT")), form, body)
    if header.points * header.step > _MAX_BODY_BYTES:
        raise InputError(f"{points} points of {header.step} bytes; at most {_MAX_BODY_BYTES} bytes are read")
    return header


def _integers(entries: dict[str, list[str]], key: str, many: int) -> list[int]:
    values = entries.get(key, [])
    if len(values) != many or not all(value.isascii() and value.isdecimal() and len(value) < 20 for value in values):
        raise InputError(f"{key} is {' '.join(values)[:64]!r}, where {many} whole numbers belong")
    return [int(value) for value in values]


def _field(name: str, kind: str, size: int, count: int) -> PcdField:
    number = _NUMBERS.get((kind, size))
    if number is None:
        raise InputError(f"field '{name[:64]}' has the type {kind[:8]} of {size} bytes, which is not known")
    if not 0 < count <= _MAX_COUNT:
        raise InputError(f"field '{name[:64]}' has {count} values a point")
    return PcdField(name, number, count)


def _viewpoint(values: list[str] | None) -> Float64Array:
    """Translation x y z, then a quaternion w x y z."""
    if values is None:
        return np.eye(4)
    try:
        x, y, z, qw, qx, qy, qz = (float(value) for value in values)
    except ValueError:
        raise InputError(f"VIEWPOINT is {' '.join(values)[:64]!r}, where seven numbers belong") from None
    if not np.isfinite([x, y, z]).all():
        raise InputError("VIEWPOINT is not finite")
    return rigid(unit_rotation(qx, qy, qz, qw), np.array([x, y, z]))


def _binary(header: PcdHeader, body: memoryview, names: Sequence[str]) -> NDArray[Any]:
    size = header.points * header.step
    if len(body) < size:
        raise InputError(f"the file ends after {len(body)} of {size} bytes of points")
    _check_rest(body[size:])
    starts = np.cumsum([0, *(field.size for field in header.fields)])
    first = {name: _first(header, name) for name in names}
    layout = np.dtype(
        {
            "names": list(names),
            "formats": [header.fields[i].number for i in first.values()],
            "offsets": [int(starts[i]) for i in first.values()],
            "itemsize": header.step,
        }
    )
    return np.frombuffer(body[:size], layout)


def _compressed(header: PcdHeader, body: memoryview, names: Sequence[str]) -> NDArray[Any]:
    """Two sizes and LZF data, which unpack to the first field of all points, then the second, and so on."""
    if len(body) < 8:
        raise InputError("the file ends before the sizes of the compressed points")
    packed, size = struct.unpack_from("<II", body)
    if size != header.points * header.step:
        raise InputError(f"{size} bytes of points; {header.points} of {header.step} bytes are declared")
    if len(body) - 8 < packed:
        raise InputError(f"the file ends after {len(body) - 8} of {packed} bytes of compressed points")
    _check_rest(body[8 + packed :])
    data = unpack_lzf(bytes(body[8 : 8 + packed]), size)
    starts = np.cumsum([0, *(field.size * header.points for field in header.fields)])
    made = np.empty(header.points, [(name, header.fields[_first(header, name)].number) for name in names])
    for name in names:
        i = _first(header, name)
        made[name] = np.frombuffer(data, header.fields[i].number, header.points, int(starts[i]))
    return made


def _ascii(header: PcdHeader, body: memoryview, names: Sequence[str]) -> NDArray[Any]:
    columns = np.cumsum([0, *(field.count for field in header.fields)])
    rows = [words for line in bytes(body).splitlines() if (words := line.split())]
    if len(rows) != header.points:
        raise InputError(f"{len(rows)} lines of points; {header.points} are declared")
    for number, words in enumerate(rows, 1):
        if len(words) != columns[-1]:
            raise InputError(f"point {number} has {len(words)} numbers; the fields have {columns[-1]}")
    made = np.empty(header.points, [(name, header.fields[_first(header, name)].number) for name in names])
    for name in names:
        column = int(columns[_first(header, name)])
        made[name] = _numbers(name, [words[column] for words in rows], made.dtype[name])
    return made


def _numbers(name: str, words: list[bytes], number: np.dtype[Any]) -> NDArray[Any]:
    if max(map(len, words), default=0) > _MAX_WORD:
        raise InputError(f"a value of field '{name}' is longer than {_MAX_WORD} characters")
    try:
        with np.errstate(over="ignore"):
            return np.array(words, f"S{_MAX_WORD}").astype(number)
    except (ValueError, OverflowError) as error:
        raise InputError(f"field '{name}': {error}") from None


def _check_rest(rest: memoryview) -> None:
    """PCL fills up to a whole page with zeros; anything else behind the points is more than was declared."""
    if bytes(rest).strip(b"\0\r\n"):
        raise InputError(f"{len(rest)} bytes behind the last declared point")


def _first(header: PcdHeader, name: str) -> int:
    return next(i for i, field in enumerate(header.fields) if field.name == name and field.count == 1)


_READ = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}
