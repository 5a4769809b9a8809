"""`sensor_msgs/PointCloud2` as a structured array over the message's own bytes, without copying a point.

Layout: the message's definition, https://docs.ros.org/en/noetic/api/sensor_msgs/html/msg/PointCloud2.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.recording.points.point_fields import MAX_POINTS, FieldRule, find_fields, full_scale, sweep_of
from fusion.types import PointCloud

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_MAX_FIELDS = 256
_MAX_STEP = 1 << 16


def cloud_rule(message: Any) -> FieldRule:
    """How the sweeps of a topic are read, judged by its first message. Raises `InputError` as `read_cloud` does."""
    rule = find_fields([field.name for field in _fields(message)])
    full = full_scale(_packed(message, (*rule.used,))[rule.intensity]) if rule.intensity else 1.0
    return FieldRule(rule.intensity, full, rule.time)


def read_cloud(message: Any, rule: FieldRule, time_ns: int) -> tuple[PointCloud, int]:
    """The sweep stamped `time_ns`, and how many of its points were dropped for being no return.

    Raises `InputError` when the message's fields, steps and sizes do not describe its bytes.
    """
    return sweep_of(_packed(message, rule.used), rule, time_ns)


def _packed(message: Any, names: tuple[str, ...]) -> NDArray[Any]:
    """The fields `names` of every point, a structured array (N,)."""
    step, order = int(message.point_step), ">" if message.is_bigendian else "<"
    layout = {}
    for field in _fields(message):
        if field.name in names and field.name not in layout:
            layout[field.name] = (order + _number(field, step), int(field.offset))
    missing = [name for name in names if name not in layout]
    if missing:
        raise InputError(f"the cloud has no field {', '.join(missing)}, which the topic's first one has")
    formats, offsets = zip(*layout.values(), strict=True)
    kind = np.dtype({"names": list(layout), "formats": formats, "offsets": offsets, "itemsize": step})
    height, width, row = _shape(message, step)
    return np.ndarray((height, width), kind, message.data, 0, (row, step)).reshape(-1)


def _fields(message: Any) -> list[Any]:
    if len(message.fields) > _MAX_FIELDS:
        raise InputError(f"a cloud of {len(message.fields)} fields; at most {_MAX_FIELDS} are read")
    return list(message.fields)


def _number(field: Any, step: int) -> str:
    number = _NUMBERS.get(field.datatype)
    if number is None:
        raise InputError(f"field '{field.name}' of the cloud has the unknown type {field.datatype}")
    if field.count > 1:
        raise InputError(f"field '{field.name}' of the cloud has {field.count} values a point, where one is needed")
    if not 0 < step <= _MAX_STEP or field.offset + int(number[1]) > step:
        raise InputError(f"field '{field.name}' at byte {field.offset} lies outside the point step of {step}")
    return number


def _shape(message: Any, step: int) -> tuple[int, int, int]:
    """Rows, points a row and bytes a row. Rows may be padded; a row step of 0 is taken as none."""
    height, width, row, size = int(message.height), int(message.width), int(message.row_step), len(message.data)
    if height * width > MAX_POINTS:
        raise InputError(f"a cloud of {height} x {width} points; at most {MAX_POINTS} are read")
    if height <= 1 or not row:
        row = width * step  # of a single row no step is needed, and some drivers write none
    if row < width * step:
        raise InputError(f"a row of {width} points of {step} bytes does not fit into the row step of {row}")
    if size != height * row:
        few = "only " if size < height * row else ""
        raise InputError(f"the cloud's data are {few}{size} bytes; {height} x {width} points need {height * row}")
    return height, width, row
