"""One sample a camera frame: each frame of the reference sensor with the other sensors' readings nearest in time.

A pure function of the readings in their order. Nothing here knows the wall clock, so a recording gives the
same samples at any pace and after any restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from fusion.errors import ConfigError
from fusion.synchronization.audio import AudioWindow
from fusion.synchronization.settings import SynchronizerSettings
from fusion.task import Task
from fusion.types import Availability, Gap, Modality, Reading, SensorSlot

JUMP_NS = 5_000_000_000
"""A step of one sensor's stamps beyond this is its clock being set, not a late delivery."""


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """One reference frame with its slots, by sensor name; a reading a little newer than the frame has age 0.

    `cursor` is the source's position after the frame; reading on from `warm_cursor` rebuilds the synchronizer
    as it was. `fresh` says that the clock was set before this frame: nothing
    older is comparable with it.
    """

    time_ns: int
    slots: Mapping[str, SensorSlot]
    cursor: int
    warm_cursor: int
    fresh: bool = False


@dataclass(slots=True)
class SyncCounts:
    """Readings that were not in order, by kind."""

    duplicate: int = 0
    out_of_order: int = 0
    clock_set: int = 0
    unknown_sensor: int = 0
    waited_out: int = 0


@dataclass(slots=True)
class _Track:
    """One sensor's newest readings, oldest first, as (cursor, reading)."""

    readings: deque[tuple[int, Reading]]

    @property
    def newest_ns(self) -> int | None:
        return self.readings[-1][1].capture_time_ns if self.readings else None

    def insert(self, cursor: int, reading: Reading) -> None:
        position = len(self.readings)
        while position and self.readings[position - 1][1].capture_time_ns > reading.capture_time_ns:
            position -= 1
        if len(self.readings) == self.readings.maxlen:
            if position == 0:
                return
            self.readings.popleft()
            position -= 1
        self.readings.insert(position, (cursor, reading))

    def nearest(self, time_ns: int, ahead_ns: int) -> Reading | None:
        """The reading nearest to `time_ns`, not newer than `ahead_ns` after it; of two, the older."""
        known = [r for _, r in self.readings if r.capture_time_ns <= time_ns + ahead_ns]
        return min(known, key=lambda r: (abs(r.capture_time_ns - time_ns), r.capture_time_ns), default=None)


@dataclass(slots=True)
class Synchronizer:
    """Feed it readings with `push`; it hands back samples, and gaps for frames it had to refuse.

    `sensors` maps the task's sensor names to modalities; `reference` is the one whose frames make samples.
    """

    sensors: Mapping[str, Modality]
    reference: str
    settings: SynchronizerSettings
    sample_rate_hz: int = 16_000
    counts: SyncCounts = field(default_factory=SyncCounts)
    _tracks: dict[str, _Track] = field(init=False)
    _audio: dict[str, AudioWindow] = field(init=False)
    _waiting: deque[tuple[int, Reading]] = field(default_factory=deque)
    _last_frame_ns: int | None = None
    _fresh: bool = False

    def __post_init__(self) -> None:
        others = {name: kind for name, kind in self.sensors.items() if name != self.reference}
        depth = self.settings.depth
        self._tracks = {n: _Track(deque(maxlen=depth)) for n, m in others.items() if m is not Modality.SPEECH}
        self._audio = {
            n: AudioWindow(n, self.sample_rate_hz, self.settings.audio_window_s)
            for n, m in others.items()
            if m is Modality.SPEECH
        }

    @classmethod
    def of_task(cls, task: Task, settings: SynchronizerSettings) -> Synchronizer:
        """The synchronizer of a task's sensors. Raises `ConfigError` for a reference the task does not have."""
        cameras = task.of_modality(Modality.CAMERA)
        reference = settings.reference or (cameras[0] if cameras else next(iter(task.sensors)))
        if reference not in task.sensors:
            raise ConfigError(f"synchronizer.reference: task {task.name} has no sensor {reference!r}")
        microphones = task.of_modality(Modality.SPEECH)
        rate = task.sensors[microphones[0]].sample_rate_hz if microphones else 0
        return cls({n: s.modality for n, s in task.sensors.items()}, reference, settings, rate or 16_000)

    def push(self, cursor: int, reading: Reading) -> list[Aligned | Gap]:
        """Take a reading; `cursor` is the source's position after it. Returns what became complete, in order."""
        name = reading.sensor
        if self.sensors.get(name) is not reading.modality:
            self.counts.unknown_sensor += 1
            return []
        if name == self.reference:
            return self._frame(cursor, reading)
        if name in self._audio:
            if self._audio[name].push(cursor, reading):
                self.counts.out_of_order += 1
        else:
            self._other(self._tracks[name], cursor, reading)
        return self._release()

    def flush(self) -> list[Aligned | Gap]:
        """Everything still waiting, as it is: at the end of a source."""
        return [self._align(*self._waiting.popleft()) for _ in range(len(self._waiting))]

    def skip(self, cursor: int, frame: Reading, reason: str) -> list[Aligned | Gap]:
        """Pass over a frame of the reference sensor, though time passes: what waits is handed back, then its gap."""
        done = self.flush()
        last = self._last_frame_ns
        if last is not None and abs(frame.capture_time_ns - last) > JUMP_NS:
            self.counts.clock_set += 1
            self._fresh = True
            last = None
        self._last_frame_ns = max(frame.capture_time_ns, last or 0)
        return [*done, Gap(cursor, cursor, reason)]

    def _frame(self, cursor: int, reading: Reading) -> list[Aligned | Gap]:
        stamp, last = reading.capture_time_ns, self._last_frame_ns
        done: list[Aligned | Gap] = []
        if last is not None and abs(stamp - last) > JUMP_NS:
            self.counts.clock_set += 1
            done = self.flush()
            self._fresh = True
        elif last is not None and stamp <= last:
            duplicate = stamp == last
            self.counts.duplicate += duplicate
            self.counts.out_of_order += not duplicate
            done = self.flush()
            return [*done, Gap(cursor, cursor, "duplicate frame" if duplicate else "frame out of order")]
        self._last_frame_ns = stamp
        self._waiting.append((cursor, reading))
        return done + self._release()

    def _other(self, track: _Track, cursor: int, reading: Reading) -> None:
        stamp, newest = reading.capture_time_ns, track.newest_ns
        if newest is not None and abs(stamp - newest) > JUMP_NS:
            self.counts.clock_set += 1
            track.readings.clear()
        elif any(r.capture_time_ns == stamp for _, r in track.readings):
            self.counts.duplicate += 1
            return
        elif newest is not None and stamp < newest:
            self.counts.out_of_order += 1
        track.insert(cursor, reading)

    def _release(self) -> list[Aligned | Gap]:
        done: list[Aligned | Gap] = []
        while self._waiting:
            stamp = self._waiting[0][1].capture_time_ns
            late = self._stream_ns() > stamp + _ns(self.settings.ahead_ms)
            waited_out = late or len(self._waiting) > self.settings.depth
            missing = any(self._may_improve(track, stamp) for track in self._tracks.values())
            if missing and not waited_out:
                break
            self.counts.waited_out += missing
            done.append(self._align(*self._waiting.popleft()))
        return done

    def _stream_ns(self) -> int:
        stamps = [track.newest_ns for track in self._tracks.values() if track.newest_ns is not None]
        return max([self._waiting[-1][1].capture_time_ns, *stamps])

    def _may_improve(self, track: _Track, stamp: int) -> bool:
        """Whether a sensor that is alive has not yet delivered up to the frame."""
        newest = track.newest_ns
        return newest is not None and stamp - _ns(self.settings.late_ms) <= newest < stamp

    def _align(self, cursor: int, frame: Reading) -> Aligned:
        stamp = frame.capture_time_ns
        slots = {self.reference: SensorSlot(Availability.PRESENT, 0, frame)}
        for name, track in self._tracks.items():
            reading = track.nearest(stamp, _ns(self.settings.ahead_ms))
            slots[name] = self._slot(reading, stamp - reading.capture_time_ns if reading else 0)
        for name, window in self._audio.items():
            heard = window.until(stamp)
            slots[name] = self._slot(heard, stamp - window.end_ns(stamp) if heard else 0)
        fresh, self._fresh = self._fresh, False
        ordered = {name: slots[name] for name in self.sensors}
        return Aligned(stamp, ordered, cursor, self._oldest(cursor) - 1, fresh)

    def _slot(self, reading: Reading | None, age_ns: int) -> SensorSlot:
        if reading is None or age_ns > _ns(self.settings.late_ms):
            return SensorSlot.absent()
        late = age_ns > _ns(self.settings.present_ms)
        return SensorSlot(Availability.LATE if late else Availability.PRESENT, max(0, age_ns), reading)

    def _oldest(self, cursor: int) -> int:
        held = [c for track in self._tracks.values() for c, _ in track.readings]
        held += [c for c, _ in self._waiting]
        held += [c for window in self._audio.values() for c in window.cursors]
        return min([cursor, *held])


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
