"""One sample a camera frame: each frame of the reference sensor with the other sensors' readings nearest in time.

A pure function of the readings in their order, unless `tick` is called. Nothing here knows the wall clock, so a
recording gives the same samples at any pace and after any restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from fusion.errors import ConfigError
from fusion.synchronization.audio import AudioWindow
from fusion.synchronization.counts import JUMP_NS, StampFault, SyncCounts
from fusion.synchronization.settings import SynchronizerSettings
from fusion.synchronization.track import Held, Track
from fusion.synchronization.waiting import WaitingFrame
from fusion.task import Task
from fusion.types import Availability, Gap, Modality, Reading, SensorSlot


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
class Synchronizer:
    """Feed it readings with `push`; it hands back samples, and gaps for frames it had to refuse.

    `sensors` maps the task's sensor names to modalities; `reference` is the one whose frames make samples.
    """

    sensors: Mapping[str, Modality]
    reference: str
    settings: SynchronizerSettings
    sample_rate_hz: int = 16_000
    counts: SyncCounts = field(default_factory=SyncCounts)
    _tracks: dict[str, Track] = field(init=False)
    _audio: dict[str, AudioWindow] = field(init=False)
    _waiting: deque[WaitingFrame] = field(default_factory=deque)
    _last_frame_ns: int | None = None
    _last_cursor: int = 0
    _fresh: bool = False

    def __post_init__(self) -> None:
        others = {name: kind for name, kind in self.sensors.items() if name != self.reference}
        depth = self.settings.depth
        self._tracks = {n: Track(deque(maxlen=depth)) for n, m in others.items() if m is not Modality.SPEECH}
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
            window = self._audio[name]
            self._notice_disorder(name, reading.capture_time_ns, window.last_ns)
            window.push(cursor, reading)
        else:
            self._other(self._tracks[name], cursor, reading)
        return self._release()

    def tick(self, now_ns: int) -> list[Aligned | Gap]:
        """Time has passed while nothing came: frames that have waited for more than `late_ms` are handed back.

        `now_ns` is of any clock that goes on. Only for a source that is not read again, since its samples then depend
        on when this is called.
        """
        late_ns = _ns(self.settings.late_ms)
        done: list[Aligned | Gap] = []
        overdue = sum(frame.waited_ns(now_ns) > late_ns for frame in self._waiting)
        for _ in range(overdue):
            frame = self._waiting.popleft()
            self.counts.waited_out += frame.in_vain or len(frame.done) < len(self._tracks)
            done.append(self._align(frame))
        return done

    def flush(self) -> list[Aligned | Gap]:
        """Everything still waiting, as it is: at the end of a source."""
        return [self._align(self._waiting.popleft()) for _ in range(len(self._waiting))]

    def skip(self, cursor: int, frame: Reading, reason: str) -> list[Aligned | Gap]:
        """Pass over a frame of the reference sensor, though time passes: what waits is handed back, then its gap."""
        done = self.flush()
        last, self._last_cursor = self._last_frame_ns, cursor
        if last is not None and abs(frame.capture_time_ns - last) > JUMP_NS:
            self._notice_disorder(self.reference, frame.capture_time_ns, last)
            self._fresh = True
            last = None
        self._last_frame_ns = max(frame.capture_time_ns, last or 0)
        return [*done, Gap(cursor, cursor, reason)]

    def _frame(self, cursor: int, reading: Reading) -> list[Aligned | Gap]:
        stamp, last = reading.capture_time_ns, self._last_frame_ns
        self._last_cursor = cursor
        fault = self._notice_disorder(self.reference, stamp, last)
        done: list[Aligned | Gap] = []
        if fault is StampFault.CLOCK_SET:
            done = self.flush()
            self._fresh = True
        elif fault:
            why = "duplicate frame" if fault is StampFault.DUPLICATE else "frame out of order"
            return [*self.flush(), Gap(cursor, cursor, why)]
        self._last_frame_ns = stamp
        self._waiting.append(WaitingFrame(cursor, reading))
        return done + self._release()

    def _other(self, track: Track, cursor: int, reading: Reading) -> None:
        name, stamp = reading.sensor, reading.capture_time_ns
        if any(r.capture_time_ns == stamp for _, r in track.readings):
            self.counts.add(name, StampFault.DUPLICATE, 0)
            return
        if self._notice_disorder(name, stamp, track.newest_ns) is StampFault.CLOCK_SET:
            track.readings.clear()
            for frame in self._waiting:
                frame.begin_anew(name)
        else:
            self._notice_late(name, track.heard, stamp)
        if gone := track.insert(cursor, reading):
            self._notice_early(name, *gone)
        for frame in self._waiting:
            frame.heard(name, track.newest_ns or 0)

    def _notice_disorder(self, name: str, stamp: int, last: int | None) -> StampFault | None:
        """What is wrong with a stamp after the sensor's newest. It is counted, but for a mere pause of the sensor."""
        if last is None or last < stamp <= last + JUMP_NS:
            return None
        fault = StampFault.DUPLICATE if stamp == last else StampFault.OUT_OF_ORDER
        if abs(stamp - last) > JUMP_NS:
            fault = StampFault.CLOCK_SET
        if stamp < last or fault is not StampFault.CLOCK_SET or not self._is_time(name, stamp):
            self.counts.add(name, fault, stamp - last)
        return fault

    def _is_time(self, name: str, stamp: int) -> bool:
        """Whether another sensor than `name` has been at that time, too."""
        newest = {self.reference: self._last_frame_ns}
        newest |= {other: track.newest_ns for other, track in self._tracks.items()}
        newest |= {other: window.last_ns for other, window in self._audio.items()}
        return any(at is not None and abs(stamp - at) <= JUMP_NS for other, at in newest.items() if other != name)

    def _notice_late(self, name: str, heard: int, stamp: int) -> None:
        """Count a reading too old for every frame to come, though frames came since the sensor's last one."""
        if self._last_frame_ns is None or heard > self._last_cursor:
            return
        frame = self._waiting[0].time_ns if self._waiting else self._last_frame_ns
        if stamp < frame - _ns(self.settings.late_ms):
            self.counts.add(name, StampFault.OUT_OF_WINDOW, stamp - frame)

    def _notice_early(self, name: str, cursor: int, gone: Reading) -> None:
        """Count a reading that gave way while still too new for the frames that came after it."""
        frame = self._last_frame_ns
        if frame is None or cursor > self._last_cursor:
            return
        if gone.capture_time_ns > frame + _ns(self.settings.ahead_ms):
            self.counts.add(name, StampFault.OUT_OF_WINDOW, gone.capture_time_ns - frame)

    def _release(self) -> list[Aligned | Gap]:
        for place, frame in enumerate(self._waiting):
            passed = self._waiting[-1].time_ns > frame.time_ns + _ns(self.settings.ahead_ms)
            passed |= len(self._waiting) - place > self.settings.depth
            for name, track in self._tracks.items():
                missing = name not in frame.done and self._may_improve(track, frame.time_ns)
                if missing and not passed and not self._others_went_on(frame, name):
                    continue
                frame.done.add(name)
                frame.in_vain |= missing
                reached = track.newest_ns is not None and track.newest_ns >= frame.time_ns
                if (missing or reached) and (held := self._choice(frame, name)):
                    frame.chosen[name] = held
        done: list[Aligned | Gap] = []
        while self._waiting and len(self._waiting[0].done) == len(self._tracks):
            self.counts.waited_out += self._waiting[0].in_vain
            done.append(self._align(self._waiting.popleft()))
        return done

    def _others_went_on(self, frame: WaitingFrame, name: str) -> bool:
        """Whether another sensor than `name` shows that the frame has waited long enough.

        It is judged by how far that sensor's stamps went on since, so it does not matter whether its clock is right.
        """
        ahead_ns = _ns(self.settings.ahead_ms)
        others = ((other, track) for other, track in self._tracks.items() if other != name)
        return any(frame.progress_ns(other, track.newest_ns) > ahead_ns for other, track in others)

    def _choice(self, frame: WaitingFrame, name: str) -> Held | None:
        """What the frame takes of a sensor: what was settled, or what is nearest by now."""
        return frame.chosen.get(name) or self._tracks[name].nearest(frame.time_ns, _ns(self.settings.ahead_ms))

    def _may_improve(self, track: Track, stamp: int) -> bool:
        """Whether a sensor that is alive has not yet delivered up to the frame."""
        newest = track.newest_ns
        return newest is not None and stamp - _ns(self.settings.late_ms) <= newest < stamp

    def _align(self, frame: WaitingFrame) -> Aligned:
        stamp = frame.time_ns
        slots = {self.reference: SensorSlot(Availability.PRESENT, 0, frame.frame)}
        for name in self._tracks:
            held = self._choice(frame, name)
            slots[name] = self._slot(held[1], stamp - held[1].capture_time_ns) if held else SensorSlot.absent()
        for name, window in self._audio.items():
            heard = window.until(stamp)
            slots[name] = self._slot(heard, stamp - window.end_ns(stamp) if heard else 0)
        fresh, self._fresh = self._fresh, False
        ordered = {name: slots[name] for name in self.sensors}
        return Aligned(stamp, ordered, frame.cursor, self._oldest(frame.cursor) - 1, fresh)

    def _slot(self, reading: Reading | None, age_ns: int) -> SensorSlot:
        if reading is None or age_ns > _ns(self.settings.late_ms):
            return SensorSlot.absent()
        late = age_ns > _ns(self.settings.present_ms)
        return SensorSlot(Availability.LATE if late else Availability.PRESENT, max(0, age_ns), reading)

    def _oldest(self, cursor: int) -> int:
        held = [c for track in self._tracks.values() for c, _ in track.readings]
        held += [c for frame in self._waiting for c in frame.cursors]
        held += [c for window in self._audio.values() for c in window.cursors]
        return min([cursor, *held])


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
