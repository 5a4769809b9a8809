"""Frames of a video, decoded in the order they are shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.preparation.image import MAX_PIXELS
from fusion.recording.media.video_file import FrameIndex, Report, VideoFile
from fusion.types import Image, UInt8Array


def read_frames(file: VideoFile, index: FrameIndex, start: int, report: Report) -> Iterator[tuple[int, Image]]:
    """The frames from number `start` (from 0) on, with their numbers.

    Decoding begins at the keyframe before, where the container can seek. `report` is told of what is lost, with its
    time; if it returns, decoding goes on at the next keyframe (in AVI, which tells frames by their order, it ends).
    """
    due = start
    for number, frame in _numbered(file, index, start, report):
        if number < due:
            continue
        if number > due:
            report(_lost(index, due, number))
        try:
            image = Image(upright(frame))
        except (InputError, OSError, ValueError) as error:
            report(f"{_at(index, number)}: {error}")
        else:
            yield number, image
        due = number + 1
    if due < len(index.stamps):
        report(_lost(index, due, len(index.stamps)))


def upright(frame: Any) -> UInt8Array:
    """RGB pixels (H, W, 3) of a frame, turned and mirrored as its display matrix says.

    The matrix (ISO/IEC 14496-12, 6.2.2) takes a row vector (x, y, 1). Raises `InputError` for angles that are no
    quarter turns and for frames too large.
    """
    if frame.width * frame.height > MAX_PIXELS:
        raise InputError(f"a frame of {frame.width}x{frame.height} pixels; {MAX_PIXELS} are read")
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    matrix = next((bytes(data)[:20] for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(matrix, np.int32).tolist()
    if (a or d) and (b or c):
        raise InputError("a frame that is turned by an angle that is no quarter turn")
    if b and c:
        pixels, flip_rows, flip_columns = pixels.swapaxes(0, 1), b < 0, c < 0
    else:
        flip_rows, flip_columns = d < 0, a < 0
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def _numbered(file: VideoFile, index: FrameIndex, start: int, report: Report) -> Iterator[tuple[int, Any]]:
    """Frames with their numbers, from the keyframe before `start` on or from an earlier one."""
    due = 0
    for count, frame in enumerate(_decoded(file, index, start, report)):
        number = count
        if not index.ordered:
            number = -1 if frame.pts is None else _number(index, frame.pts, due)
        if number < 0 or number >= len(index.stamps):
            report(f"a frame at {frame.pts} that the container does not tell of")
            continue
        yield number, frame
        due = number + 1


def _number(index: FrameIndex, stamp: int, due: int) -> int:
    """Which frame has that time, `due` if several have; -1 for none."""
    number = int(np.searchsorted(index.stamps, stamp))
    if number < due < len(index.stamps) and index.stamps[due] == stamp:
        return due
    return number if number < len(index.stamps) and index.stamps[number] == stamp else -1


def _decoded(file: VideoFile, index: FrameIndex, start: int, report: Report) -> Iterator[Any]:
    if start >= len(index.stamps):
        return
    seekable = index.keys[index.keys[:, 0] <= index.stamps[start]]
    if not index.ordered and len(seekable) > 1:
        with file.opened() as container:
            stream = file.video_stream(container)
            packets = _seek(file, container, stream, seekable[-1].tolist(), report)
            if packets is not None:
                yield from _without_damage(file, index, stream, packets, report)
                return
    with file.opened() as container:
        stream = file.video_stream(container)
        yield from _without_damage(file, index, stream, file.packets(container, stream, report), report)


def _seek(file: VideoFile, container: Any, stream: Any, key: list[int], report: Report) -> Iterator[Any] | None:
    """Packets from a keyframe (shown at, lies at) on; None where the container cannot find it."""
    shown, where = key
    try:
        container.seek(where, stream=stream)
    except OSError:
        return None
    packets = file.packets(container, stream, report)
    first = next(packets, None)
    if first is None or not first.is_keyframe or first.pts is None or first.pts > shown:
        return None
    return itertools.chain([first], packets)


def _without_damage(
    file: VideoFile, index: FrameIndex, stream: Any, packets: Iterator[Any], report: Report
) -> Iterator[Any]:
    """Sound frames. After a packet that cannot be decoded, what follows up to the next keyframe is passed over.

    Of the frames around a keyframe that decoding begins at, those shown before it need earlier ones and are left out.
    """
    begin: int | None = None
    waiting = True
    for packet in packets:
        if waiting and packet.size:
            if not packet.is_keyframe:
                continue
            waiting, begin = False, packet.pts
        frames, problem = file.decode(packet)
        if not problem and any(frame.is_corrupt for frame in frames):
            problem = "a frame is damaged"
        if problem:
            stamp = packet.pts if packet.pts is not None else packet.dts
            time = "the end" if stamp is None else f"{float((stamp - int(index.stamps[0])) * index.time_base):.3f} s"
            report(f"at {time} of its video: cannot be decoded ({problem})")
            stream.codec_context.flush_buffers()
            waiting = True
        for frame in frames:
            early = not index.ordered and begin is not None and frame.pts is not None and frame.pts < begin
            if not frame.is_corrupt and not early:
                yield frame
        if problem and index.ordered:
            return


def _at(index: FrameIndex, frame: int) -> str:
    return f"frame {frame} at {float(index.seconds(frame) - index.seconds(0)):.3f} s"


def _lost(index: FrameIndex, first: int, end: int) -> str:
    return f"{_at(index, first)}: {end - first} frame(s) from there on cannot be decoded"
