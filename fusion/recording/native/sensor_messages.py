"""Readings as Foxglove messages, and back: pictures, sweeps and sound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud as PointCloudMessage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.geometry import apply
from fusion.preparation import decode_image
from fusion.recording.native.pose import matrix, pose
from fusion.recording.native.schemas import stamp
from fusion.types import AudioChunk, Float32Array, Image, PointCloud

_AXES = ("x", "y", "z", "intensity")
_EXTRAS = {"offset_s": "<f4", "label": "<u2"}
"""Fields that follow the axes where a sweep has them: `offsets_s` and `labels` of `PointCloud`."""
_NUMBERS = {
    PackedElementField.UINT8: "<u1",
    PackedElementField.INT8: "<i1",
    PackedElementField.UINT16: "<u2",
    PackedElementField.INT16: "<i2",
    PackedElementField.UINT32: "<u4",
    PackedElementField.INT32: "<i4",
    PackedElementField.FLOAT32: "<f4",
    PackedElementField.FLOAT64: "<f8",
}
_TYPES = {number: kind for kind, number in _NUMBERS.items()}
_PCM = "pcm-s16"
_MAX_CHANNELS = 64
_MAX_SAMPLE_RATE_HZ = 768_000
_MAX_FIELDS = 64
_MAX_STRIDE = 1 << 16


def image_message(name: str, time_ns: int, image: Image, jpeg_quality: int) -> Any:
    """A picture's own encoded bytes if it has them, else a JPEG of it."""
    data, encoding = image.encoded, image.encoding.lower().replace("jpg", "jpeg")
    if data is None:
        if image.pixels.dtype != np.uint8 or image.pixels.ndim != 3 or image.pixels.shape[2] != 3:
            raise InputError(f"a picture of shape {image.pixels.shape} and type {image.pixels.dtype}")
        bgr = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR)
        done, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
        if not done:
            raise InputError(f"a picture of {image.pixels.shape} that cannot be written as JPEG")
        data, encoding = buffer.tobytes(), "jpeg"
    return CompressedImage(timestamp=stamp(time_ns), frame_id=name, data=data, format=encoding)


def read_image(message: Any) -> Image:
    """The picture, decoded; raises `InputError` when it cannot be, or is cut short or too large."""
    return decode_image(message.data)


def cloud_message(name: str, time_ns: int, cloud: PointCloud, grid_m: float) -> Any:
    """A sweep as packed float32 x, y, z, intensity, then float32 `offset_s` and uint16 `label` where it has them.

    With `grid_m` > 0, coordinates are rounded to its multiples and intensity to 1/256: half the bytes after zstd.
    Raises `InputError` when the parts have other types or are not one a point.
    """
    points = np.asarray(cloud.points, "<f4")
    if points.ndim != 2 or points.shape[1] != 4:
        raise InputError(f"a sweep of shape {points.shape}; (N, 4) is needed")
    if grid_m > 0:
        step = np.array([grid_m, grid_m, grid_m, 1 / 256], np.float32)
        points = np.round(points / step) * step + np.float32(0)  # + 0 turns -0 into 0
    extras = _extras(cloud)
    layout = _layout(extras)
    packed = np.empty(len(points), layout)
    for axis, values in zip(_AXES, points.T, strict=True):
        packed[axis] = values
    for extra, values in extras.items():
        packed[extra] = values
    return PointCloudMessage(
        timestamp=stamp(time_ns),
        frame_id=name,
        pose=pose(np.eye(4)),
        point_stride=layout.itemsize,
        fields=[PackedElementField(name=n, offset=at, type=_TYPES[number]) for n, (number, at) in _places(layout)],
        data=packed.tobytes(),
    )


def _extras(cloud: PointCloud) -> dict[str, NDArray[Any]]:
    """What the sweep tells beside its axes, by field, one value a point."""
    told = {"offset_s": cloud.offsets_s, "label": cloud.labels}
    found = {name: values for name, values in told.items() if values is not None}
    for name, values in found.items():
        number = np.dtype(_EXTRAS[name])
        if values.shape != (len(cloud.points),) or values.dtype != number:
            raise InputError(
                f"'{name}' of shape {values.shape} and type {values.dtype} for a sweep of {len(cloud.points)} points; "
                f"{number.name}, one a point, is needed"
            )
    return found


def _layout(extras: Iterable[str]) -> np.dtype[Any]:
    """One point as it is stored, without padding."""
    return np.dtype([(axis, "<f4") for axis in _AXES] + [(name, _EXTRAS[name]) for name in extras])


def _places(layout: np.dtype[Any]) -> list[tuple[str, tuple[str, int]]]:
    """Number format and byte offset of each field, in order."""
    assert layout.fields is not None, "a layout has fields"
    return [(name, (place[0].str, place[1])) for name, place in layout.fields.items()]


def read_cloud(message: Any, *, own: bool = False) -> tuple[PointCloud, int]:
    """The sweep in the frame of `frame_id`, and how many of its points were dropped for not being finite.

    Integer intensities are taken as shares of their type's range; float ones of sweeps with any finite one above 1 as
    0..255, unless the sweep is of our `own` recorder. A field `offset_s` of float32 and a field `label` of uint16 are
    `PointCloud.offsets_s` and `.labels`. Raises `InputError` when the fields do not describe the bytes.
    """
    fields = _fields(message)
    points = _points(message, fields, own=own)
    offsets, labels = (_extra(message, fields, name) for name in _EXTRAS)
    finite = np.isfinite(points).all(axis=1)
    if offsets is not None:
        finite &= np.isfinite(offsets)
    dropped = int(len(points) - np.count_nonzero(finite))
    if dropped:
        points = points[finite]
        offsets = None if offsets is None else offsets[finite]
        labels = None if labels is None else labels[finite]
    if message.HasField("pose"):
        moved = matrix(message.pose.position, message.pose.orientation)
        if not np.array_equal(moved, np.eye(4)):
            placed = apply(moved, np.asarray(points[:, :3], np.float64))
            points = np.concatenate([np.asarray(placed, np.float32), points[:, 3:]], axis=1)
    return PointCloud(np.asarray(points, np.float32), offsets, labels), dropped


def _fields(message: Any) -> dict[str, tuple[str, int]]:
    """Number format and byte offset by name of field, checked against stride and size of the data."""
    stride, fields = message.point_stride, {}
    if stride > _MAX_STRIDE:
        raise InputError(f"a point step of {stride} bytes; at most {_MAX_STRIDE} are read")
    for entry in message.fields[:_MAX_FIELDS]:
        number = _NUMBERS.get(entry.type)
        if number is None:
            raise InputError(f"field '{entry.name}' of the sweep has the unknown type {entry.type}")
        if entry.offset + np.dtype(number).itemsize > stride:
            raise InputError(f"field '{entry.name}' at byte {entry.offset} lies outside the point step of {stride}")
        fields[entry.name] = (number, entry.offset)
    missing = [axis for axis in _AXES[:3] if axis not in fields]
    if missing:
        raise InputError(f"the sweep has no field {', '.join(missing)}; it has {', '.join(fields) or 'none'}")
    if len(message.data) % stride:
        raise InputError(f"the sweep's {len(message.data)} bytes are no multiple of its point step of {stride}")
    return fields


def _extra(message: Any, fields: dict[str, tuple[str, int]], name: str) -> NDArray[Any] | None:
    """The values (N,) of a field of `_EXTRAS`; None when the sweep has none of that name and type."""
    number, offset = fields.get(name, ("", 0))
    if number != _EXTRAS[name]:
        return None
    layout = np.dtype({"names": [name], "formats": [number], "offsets": [offset], "itemsize": message.point_stride})
    return np.frombuffer(message.data, layout)[name].astype(np.dtype(number).newbyteorder("="))


def _points(message: Any, fields: dict[str, tuple[str, int]], *, own: bool) -> Float32Array:
    """(N, 4) float32, not yet checked for being finite; of our `own` recorder, exactly what was written."""
    stride = message.point_stride
    if stride == 4 * len(_AXES) and all(fields.get(axis) == ("<f4", 4 * i) for i, axis in enumerate(_AXES)):
        plain: Float32Array = np.frombuffer(message.data, "<f4").reshape(-1, 4)
        return plain if own else _in_units(plain)
    ours = _layout(name for name in _EXTRAS if name in fields)
    if stride == ours.itemsize and list(fields.items()) == _places(ours):
        packed = np.frombuffer(message.data, ours)
        points = np.stack([packed[axis] for axis in _AXES], axis=1)
        return points if own else _in_units(points)
    return _gathered(message.data, stride, {axis: fields[axis] for axis in _AXES if axis in fields})


def _gathered(data: bytes, stride: int, fields: dict[str, tuple[str, int]]) -> Float32Array:
    numbers, offsets = zip(*fields.values(), strict=True)
    layout = np.dtype({"names": list(fields), "formats": numbers, "offsets": offsets, "itemsize": stride})
    packed = np.frombuffer(data, layout)
    points = np.zeros((len(packed), 4), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for column, axis in enumerate(fields):
            points[:, column] = packed[axis]
    if "intensity" in fields and len(points):
        points[:, 3] = _unit(points[:, 3], np.dtype(fields["intensity"][0]))
    return points


def _in_units(points: Float32Array) -> Float32Array:
    """The points (N, 4) themselves, or with intensities 0..255 brought to 0..1."""
    intensity = points[:, 3]
    if not (np.isfinite(intensity) & (intensity > 1)).any():
        return points
    return np.concatenate([points[:, :3], _unit(intensity, intensity.dtype)[:, None]], axis=1)


def _unit(intensity: Float32Array, number: np.dtype[Any]) -> Float32Array:
    """Intensities (N,) as 0..1; those that are not finite stay as they are and tell nothing of the others."""
    finite = np.isfinite(intensity)
    of_bytes = (finite & (intensity > 1)).any()
    scale = float(np.iinfo(number).max) if number.kind in "iu" else 255.0 if of_bytes else 1.0
    return np.asarray(np.where(finite, np.clip(intensity / np.float32(scale), 0, 1), intensity), np.float32)


def audio_message(time_ns: int, chunk: AudioChunk) -> Any:
    """Sound as 16-bit PCM, one channel."""
    if chunk.pcm.ndim != 1 or chunk.pcm.dtype != np.int16 or chunk.sample_rate_hz <= 0:
        raise InputError(f"sound of shape {chunk.pcm.shape}, {chunk.pcm.dtype}, at {chunk.sample_rate_hz} Hz")
    return RawAudio(
        timestamp=stamp(time_ns),
        data=chunk.pcm.astype("<i2").tobytes(),
        format=_PCM,
        sample_rate=chunk.sample_rate_hz,
        number_of_channels=1,
    )


def read_audio(message: Any) -> AudioChunk:
    """The sound, channels averaged; raises `InputError` for another format than 16-bit PCM."""
    channels, rate = message.number_of_channels, message.sample_rate
    if message.format != _PCM:
        raise InputError(f"sound in the format {message.format!r}; only {_PCM} is read")
    if not 1 <= channels <= _MAX_CHANNELS or not 1 <= rate <= _MAX_SAMPLE_RATE_HZ:
        raise InputError(f"sound of {channels} channels at {rate} Hz")
    if len(message.data) % (2 * channels):
        raise InputError(f"sound of {len(message.data)} bytes in {channels} channels of 16 bits")
    pcm = np.frombuffer(message.data, "<i2")
    if channels > 1:
        pcm = np.round(pcm.reshape(-1, channels).mean(axis=1))
    return AudioChunk(np.asarray(pcm, np.int16), rate)
