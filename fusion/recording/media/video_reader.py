"""A video file as a recording: one camera, and a microphone where it has sound."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NoReturn, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.errors import RecordingError
from fusion.recording.base import EMPTY, RecordingInfo, SensorInfo
from fusion.recording.content import check_request, content_of
from fusion.recording.media.audio_reader import describe
from fusion.recording.media.sound_chunks import RATE_HZ
from fusion.recording.media.video_file import FrameIndex, Report, VideoFile
from fusion.recording.media.video_frames import read_frames
from fusion.recording.media.video_sound import SoundIndex, index_sound, nanoseconds, read_sound
from fusion.recording.sensor_name import sensor_name
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.task import Task
from fusion.types import AudioChunk, Modality, Reading, Truth

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
_SAID = 3
Stamps: TypeAlias = Iterator[tuple[int, Reading]]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Everything the file promises: its streams, and when each frame is shown and each chunk begins, (n,) int64 ns."""

    frames: FrameIndex
    sound: SoundIndex | None
    frame_ns: NDArray[np.int64]
    chunk_ns: NDArray[np.int64]

    @property
    def frame_cursors(self) -> NDArray[np.int64]:
        """Cursors count frames and chunks together by time, a frame before a chunk of the same time."""
        return np.arange(1, len(self.frame_ns) + 1) + np.searchsorted(self.chunk_ns, self.frame_ns, "left")

    @property
    def chunk_cursors(self) -> NDArray[np.int64]:
        """See `frame_cursors`."""
        return np.arange(1, len(self.chunk_ns) + 1) + np.searchsorted(self.frame_ns, self.chunk_ns, "right")


class VideoReader:
    """Reads a `.mp4`, `.mov`, `.mkv`, `.webm` or `.avi` file.

    The camera is the task's only one, else `camera`; the first sound track is the task's only speech sensor, else
    `microphone`, in chunks of 100 ms at 16 kHz. Capture times are the frames' presentation times in nanoseconds, 0
    being where the first stream begins; variable frame rates stay. Readings come by time; a cursor is a reading's
    number among all that the file promises, from 1, so a salvaged file leaves cursors out.
    """

    def __init__(self, path: Path, task: Task | None, *, salvage: bool) -> None:
        self._path, self._salvage = path, salvage
        self._file = VideoFile(path, salvage=salvage)
        self._camera = sensor_name(task, Modality.CAMERA)
        self._microphone = sensor_name(task, Modality.SPEECH)

    @staticmethod
    def can_read(path: Path) -> bool:
        """A file with one of the suffixes."""
        return path.suffix.lower() in SUFFIXES and path.is_file()

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open `path`; raises `RecordingError` when it ends too early or has no video that can be decoded."""
        reader = cls(path, task, salvage=salvage)
        names = {reader._camera} | ({reader._microphone} if reader._file.sound else set())
        check_request(path, "a video file", names, task, split)
        return reader

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def info(self) -> RecordingInfo:
        """What the file holds. Sound is decoded to know its length; frames only when salvaging."""
        digest, size = content_of(self._path, [self._path])
        plan, damage = self._plan, ""
        frame_ns, chunk_ns = plan.frame_ns, plan.chunk_ns
        if self._salvage:
            frame_ns, chunk_ns, damage = self._checked
        sensors = {self._camera: SensorInfo.of_times(Modality.CAMERA, self._file.codec, frame_ns.tolist())}
        if plan.sound:
            told = plan.sound.encoding
            sensors[self._microphone] = SensorInfo.of_times(Modality.SPEECH, told, chunk_ns.tolist())
        return RecordingInfo(
            path=self._path,
            format="video",
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors=sensors,
            rig=None,
            truths=0,
            notes=self._notes(plan),
            unread=self._file.unread,
            damage=damage,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the streams' packets; everything is decoded on the way."""
        _ = self._checked
        found = {self._camera: self._plan.frames.stored_bytes}
        return found | ({self._microphone: self._plan.sound.stored_bytes} if self._plan.sound else {})

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """Frames and chunks by time. Frames are decoded from the keyframe before the first one that is wanted."""
        return self._readings(max(0, start_cursor), self._report([]))

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; frames are decoded from the keyframe before them."""
        start = max(0, start_cursor)
        if empty:
            return self._stamps(self._plan, start, times)
        return self._readings(start, self._report([]), times)

    def truth(self) -> Iterator[Truth]:
        """Nothing: the file carries no truth."""
        return iter(())

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Nothing."""
        del times
        return iter(())

    @cached_property
    def _problems(self) -> list[str]:
        return [self._file.cut] if self._file.cut else []

    @cached_property
    def _plan(self) -> _Plan:
        report = self._report(self._problems)
        frames = self._file.index(report)
        sound = index_sound(self._file, report) if self._file.sound else None
        begins = [frames.seconds(0)] + ([s.start for s in sound.stretches] if sound else [])
        origin: Fraction = min(begins)
        shown = [nanoseconds(int(stamp) * frames.time_base - origin) for stamp in frames.stamps]
        chunks = sound.times_ns(origin) if sound else []
        return _Plan(frames, sound, np.array(shown, np.int64), np.array(chunks, np.int64))

    @cached_property
    def _checked(self) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
        """Times of the frames and of the chunks that can be decoded, and what is wrong."""
        _ = self._plan
        problems = list(self._problems)
        times: dict[Modality, list[int]] = {Modality.CAMERA: [], Modality.SPEECH: []}
        for _, reading in self._readings(0, self._report(problems)):
            times[reading.modality].append(reading.capture_time_ns)
        told = list(dict.fromkeys(problems))
        more = f"; and {len(told) - _SAID} more" if len(told) > _SAID else ""
        frames, chunks = (np.array(found, np.int64) for found in times.values())
        return frames, chunks, "; ".join(told[:_SAID]) + more

    def _readings(self, start: int, report: Report, times: TimeRange = ALWAYS) -> Iterator[tuple[int, Reading]]:
        plan = self._plan
        frames, chunks = self._frames(plan, start, report, times), self._chunks(plan, start, report, times)
        yield from heapq.merge(frames, chunks, key=lambda pair: pair[0])

    def _stamps(self, plan: _Plan, start: int, times: TimeRange) -> Iterator[tuple[int, Reading]]:
        def of(name: str, modality: Modality, cursors: NDArray[np.int64], stamps: NDArray[np.int64]) -> Stamps:
            first, last = _numbers(cursors, stamps, start, times)
            for number in range(first, last):
                yield int(cursors[number]), Reading(name, modality, int(stamps[number]), EMPTY[modality])

        frames = of(self._camera, Modality.CAMERA, plan.frame_cursors, plan.frame_ns)
        chunks = of(self._microphone, Modality.SPEECH, plan.chunk_cursors, plan.chunk_ns)
        yield from heapq.merge(frames, chunks, key=lambda pair: pair[0])

    def _frames(self, plan: _Plan, start: int, report: Report, times: TimeRange) -> Stamps:
        cursors = plan.frame_cursors
        first, last = _numbers(cursors, plan.frame_ns, start, times)
        if first >= last:
            return
        for number, image in read_frames(self._file, plan.frames, first, report):
            if number >= last:
                return
            time_ns = int(plan.frame_ns[number])
            yield int(cursors[number]), Reading(self._camera, Modality.CAMERA, time_ns, image)

    def _chunks(self, plan: _Plan, start: int, report: Report, times: TimeRange) -> Stamps:
        cursors = plan.chunk_cursors
        first, last = _numbers(cursors, plan.chunk_ns, start, times)
        if plan.sound is None or first >= last:
            return
        for number, pcm in read_sound(self._file, plan.sound, first, report):
            if number >= last:
                return
            chunk = AudioChunk(pcm, RATE_HZ)
            yield int(cursors[number]), Reading(self._microphone, Modality.SPEECH, int(plan.chunk_ns[number]), chunk)

    def _notes(self, plan: _Plan) -> dict[str, str]:
        width, height = self._file.size
        notes = {
            "clock": "0 is where the first stream begins; presentation times",
            f"video of {self._camera}": f"{self._file.codec}, {width}x{height} as stored",
        }
        if plan.frames.ordered:
            notes["clock"] = "0 is where the first stream begins; by the frame rate, the container has no other times"
        if early := plan.frames.undecodable:
            notes[f"left out of {self._camera}"] = f"{early} frames before the first one that decoding can begin at"
        if sound := plan.sound:
            notes[f"sound of {self._microphone}"] = describe(sound.encoding, sound.rate_hz, sound.channels)
            if sound.overlap:
                notes[f"overlap of {self._microphone}"] = (
                    f"{sound.overlap} samples left out, whose time was told already"
                )
        return notes | ({"created": self._file.created} if self._file.created else {})

    def _report(self, found: list[str]) -> Report:
        return found.append if self._salvage else self._refuse

    def _refuse(self, problem: str) -> NoReturn:
        raise RecordingError(f"{self._path}: {problem}; salvaging goes on without it")


def _numbers(cursors: NDArray[np.int64], stamps: NDArray[np.int64], start: int, times: TimeRange) -> tuple[int, int]:
    """The first reading of a stream after cursor `start` in `times`, and the first beyond it; `stamps` rise."""
    low = 0 if times.low_ns is None else int(np.searchsorted(stamps, times.low_ns, "left"))
    high = len(stamps) if times.high_ns is None else int(np.searchsorted(stamps, times.high_ns, "left"))
    return max(low, int(np.searchsorted(cursors, start, "right"))), high
