"""The device's own motion taken out of live sweeps, which wait a little for the odometry that covers them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fusion.clock import Clock
from fusion.preparation.deskew import point_times_ns, still_sweep
from fusion.preparation.ego_motion import EgoMotion
from fusion.recording.base import EgoPose
from fusion.types import Float64Array, PointCloud, Reading

HOLD_NS = 100_000_000
"""How long a sweep waits for poses, and how far behind its end they may be for that to make sense."""
KEPT_NS = 3_000_000_000
"""How long poses are kept; a sweep that lasts longer is not covered."""
MOST_WAITING = 3
"""With more sweeps than that behind it, one is passed on as it was: the machine is too slow."""
NOT_COVERED = "sweep not covered"
NO_TIMES = "sweep without point times"
NO_TIME = "no time for a sweep"
_LOOK_S = 0.02


@dataclass(slots=True)
class LiveDeskew:
    """`sweep` and `pose` from any thread, without waiting; `run` is the work of a thread of its own.

    Sweeps go to `pass_on` in the order they came, with when they arrived: as at their capture time where the poses
    cover their points, else as they were, which `count` counts. `places` are the LiDARs' `ego_from_lidar` (4, 4).
    """

    places: Mapping[str, Float64Array]
    clock: Clock
    count: Callable[[str], None]
    pass_on: Callable[[Reading, int], None]
    _poses: deque[EgoPose] = field(default_factory=deque)
    _waiting: deque[tuple[int, Reading]] = field(default_factory=deque)
    _over: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def sweep(self, reading: Reading, arrived_ns: int) -> None:
        """Take a sweep that arrived at `arrived_ns` (monotonic)."""
        with self._changed:
            self._waiting.append((arrived_ns, reading))
            self._changed.notify()

    def pose(self, pose: EgoPose) -> None:
        """Take a pose; one that is before the last begins anew, for the clock was set. Raises `InputError`."""
        EgoMotion.of([(pose.time_ns, pose.map_from_ego)])
        with self._changed:
            if self._poses and pose.time_ns < self._poses[-1].time_ns:
                self._poses.clear()
            self._poses.append(pose)
            while self._poses[-1].time_ns - self._poses[0].time_ns > KEPT_NS:
                self._poses.popleft()
            self._changed.notify()

    def run(self) -> None:
        """Until `end`; what waits then is passed on."""
        over = False
        while not over:
            with self._changed:
                if not self._over:
                    self._changed.wait(_LOOK_S if self._waiting else None)
                over = self._over
            self.work()

    def work(self) -> None:
        """Pass on the sweeps that need not wait any longer."""
        while found := self._next():
            arrived_ns, reading, motion = found
            self.pass_on(self._stilled(reading, motion), arrived_ns)

    def end(self) -> None:
        """End `run` soon; from any thread."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _next(self) -> tuple[int, Reading, EgoMotion | None] | None:
        """The oldest sweep, when it arrived and how the device moved (None: there is no time), if it need not wait."""
        with self._changed:
            if not self._waiting or (not self._over and self._may_be_covered_yet(*self._waiting[0])):
                return None
            arrived_ns, reading = self._waiting.popleft()
            span = _span_ns(reading)
            if len(self._waiting) > MOST_WAITING:
                return arrived_ns, reading, None
            return arrived_ns, reading, self._motion(*span) if span else EgoMotion()

    def _may_be_covered_yet(self, arrived_ns: int, reading: Reading) -> bool:
        span = _span_ns(reading)
        if span is None or not self._poses or self.clock.monotonic_ns() - arrived_ns > HOLD_NS:
            return False
        newest_ns = self._poses[-1].time_ns
        return self._poses[0].time_ns <= span[0] and newest_ns < span[1] <= newest_ns + HOLD_NS

    def _stilled(self, reading: Reading, motion: EgoMotion | None) -> Reading:
        cloud = reading.payload
        assert isinstance(cloud, PointCloud)
        if motion is None or cloud.offsets_s is None:
            self.count(NO_TIME if motion is None else NO_TIMES)
            return reading
        still = still_sweep(cloud, reading.capture_time_ns, self.places[reading.sensor], motion)
        if still is None:
            self.count(NOT_COVERED)
            return reading
        return replace(reading, payload=still)

    def _motion(self, begin_ns: int, end_ns: int) -> EgoMotion:
        """From the last pose before the span, if any, to the first after it."""
        before = [pose for pose in self._poses if pose.time_ns <= begin_ns][-1:]
        within = [pose for pose in self._poses if begin_ns < pose.time_ns < end_ns]
        after = [pose for pose in self._poses if pose.time_ns >= end_ns][:1]
        return EgoMotion.of((pose.time_ns, pose.map_from_ego) for pose in (*before, *within, *after))


def _span_ns(reading: Reading) -> tuple[int, int] | None:
    """When the first and the last moment of a sweep were, its capture time among them; None where it does not tell."""
    cloud = reading.payload
    if not isinstance(cloud, PointCloud) or cloud.offsets_s is None or not cloud.offsets_s.size:
        return None  # nor is there anything to do for no points
    times = point_times_ns(reading.capture_time_ns, cloud.offsets_s)
    return min(reading.capture_time_ns, int(times.min())), max(reading.capture_time_ns, int(times.max()))
