"""A video file as libav sees it: which streams are read, and when each frame is shown, without decoding any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.errors import RecordingError
from fusion.preparation.image import MAX_PIXELS
from fusion.recording.media.container_end import missing_bytes
from fusion.recording.optional import optional_module

Report: TypeAlias = Callable[[str], None]
"""Where damage goes: raises, or keeps the text when salvaging."""
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi", "protocol_whitelist": "file"}
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_VP8_SHOWN = 0x10


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """The frames of a video stream in the order they are shown.

    `stamps` (n,) int64 are their times in units of `time_base` seconds. `keys` (k, 2) int64 are those of the frames
    that decoding can begin at, and where they lie in the stream. `ordered` says that the container has no
    presentation times (AVI): frames are then told by their order alone. `stored_bytes` is their size. `undecodable`
    frames were left out, for they are shown before the first one that decoding can begin at.
    """

    stamps: NDArray[np.int64]
    time_base: Fraction
    keys: NDArray[np.int64]
    ordered: bool
    stored_bytes: int
    undecodable: int

    def seconds(self, frame: int) -> Fraction:
        """When a frame is shown, by the file's clock."""
        return int(self.stamps[frame]) * self.time_base


class VideoFile:
    """An MP4, MOV, Matroska, WebM or AVI file with a video stream that can be decoded, read through PyAV.

    Raises `RecordingError` at once for anything else, and for a file that ends before its headers say unless
    `salvage`; `cut` then says so. `sound` tells whether it has a sound track that can be decoded, `unread` the rest.
    """

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self.path, self._av = path, optional_module("av", path)
        missing = missing_bytes(path)
        self.cut = f"the file ends {missing} bytes before the end that its headers promise" if missing else ""
        if missing and not salvage:
            raise RecordingError(f"{path}: {self.cut}; salvaging reads what is there")
        with self.opened() as container:
            video, sound = _video(container), _sound(container)
            if video is None:
                raise RecordingError(f"{path}: no video stream in it")
            if video.codec_context is None:
                raise RecordingError(
                    f"{path}: its video is in a codec that is not known here; convert it, to H.264 say"
                )
            self.size = (int(video.codec_context.width), int(video.codec_context.height))
            if not 0 < self.size[0] * self.size[1] <= MAX_PIXELS:
                raise RecordingError(
                    f"{path}: frames of {self.size[0]}x{self.size[1]} pixels; 1 to {MAX_PIXELS} are read"
                )
            self.codec = str(video.codec_context.name)
            self.sound = sound is not None
            self.created = str(container.metadata.get("creation_time", ""))
            self.unread = tuple(f"{s.type} track {s.index}" for s in container.streams if s not in (video, sound))

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The container; whatever libav has against it is a `RecordingError`."""
        try:
            with self._av.open(f"file:{self.path}", options=_OPTIONS, metadata_errors="replace") as container:
                yield container
        except (self._av.FFmpegError, UnicodeDecodeError) as error:
            raise RecordingError(f"{self.path}: not a video that can be read ({one_line(error)})") from None

    def video_stream(self, container: Any) -> Any:
        """The video stream, told to refuse what is damaged."""
        stream = _video(container)
        stream.codec_context.options = _STRICT
        return stream

    def sound_stream(self, container: Any) -> Any:
        """The sound track, told to refuse what is damaged."""
        stream = _sound(container)
        stream.codec_context.options = _STRICT
        return stream

    def decode(self, packet: Any) -> tuple[list[Any], str]:
        """The frames that come out with a packet, and why it cannot be decoded (empty if it can)."""
        if packet.size and packet.is_corrupt:
            return [], "its data are cut short"
        try:
            return list(packet.decode()), ""
        except self._av.FFmpegError as error:
            return [], one_line(error)

    def index(self, report: Report) -> FrameIndex:
        """The frames, from the packets' times. Raises `RecordingError` when there are none."""
        found: list[tuple[int, int, bool]] = []
        stored = packets = 0
        with self.opened() as container:
            stream, ordered = _video(container), container.format.name == "avi"
            for packet in self.packets(container, stream, report):
                packets, stored = packets + bool(packet.size), stored + packet.size
                if not packet.size or packet.is_discard or _hidden(packet, self.codec):
                    continue
                where = packet.pts if packet.dts is None else packet.dts
                shown = where if ordered or packet.pts is None else packet.pts
                if shown is None:
                    raise RecordingError(f"{self.path}: frame {len(found)} of its video has no time")
                found.append((shown, where, packet.is_keyframe))
            if container.format.name.startswith("mov") and packets < stream.frames and not self.cut:
                report(f"its header promises {stream.frames} frames, {packets} are there")
            base = Fraction(stream.time_base)
        if not found:
            raise RecordingError(f"{self.path}: no frame in its video stream")
        keys = np.array([(shown, where) for shown, where, key in found if key], np.int64).reshape(-1, 2)
        stamps = np.sort(np.array([shown for shown, _, _ in found], np.int64))
        early = int(np.searchsorted(stamps, keys[:, 0].min())) if len(keys) else 0
        return FrameIndex(stamps[early:], base, keys[np.argsort(keys[:, 0])], ordered, stored, early)

    def packets(self, container: Any, stream: Any, report: Report) -> Iterator[Any]:
        """The packets of a stream, an empty one last; damage between them ends it."""
        try:
            yield from container.demux(stream)
        except self._av.FFmpegError as error:
            report(f"its streams cannot be read on ({one_line(error)})")


def one_line(error: Exception) -> str:
    """What libav says, without its numbers."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:120]


def _video(container: Any) -> Any:
    """The first video stream that is no cover picture; None without."""
    shown = (s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic)
    return next(shown, None)


def _sound(container: Any) -> Any:
    """The first sound track that can be decoded; None without."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def _hidden(packet: Any, codec: str) -> bool:
    """Whether a packet holds a VP8 frame that is never shown (RFC 6386, section 9.1)."""
    return codec in {"vp8", "libvpx"} and not bytes(packet)[0] & _VP8_SHOWN
