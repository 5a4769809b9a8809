"""What is wrong with the stamps of readings, as the daemon tells it: logged at once, and no more than once a minute."""

from __future__ import annotations

import logging

from fusion.clock import Clock
from fusion.synchronization import StampFault, SyncCounts

QUIET_S = 60.0
"""For how long the same fault of the same sensor is counted without a further line."""
_log = logging.getLogger(__name__)


class StampBook:
    """The daemon's `counts`, told by sensor; from any thread.

    Where the source is not `continuous` a step of the stamps is no news: its frames do not follow each other.
    """

    def __init__(self, clock: Clock, *, continuous: bool) -> None:
        self.counts = SyncCounts(noticed=self._notice)
        self._clock, self._continuous = clock, continuous
        self._logged: dict[tuple[str, StampFault], tuple[int, int]] = {}

    def told(self) -> dict[str, dict[str, int]]:
        """How often, by sensor and fault; sensors without any are left out."""
        found = list(self.counts.faults.items())  # copied at once: the pipeline's thread may count meanwhile
        return {sensor: {fault.value: count for fault, count in list(kinds.items())} for sensor, kinds in found}

    def summary(self) -> dict[str, object]:
        """Totals by fault and `by_sensor`, for a run's summary."""
        counts = self.counts
        totals = {fault.value: counts.total(fault) for fault in StampFault}
        others = {"unknown_sensor": counts.unknown_sensor, "waited_out": counts.waited_out}
        return {**totals, **others, "by_sensor": self.told()}

    def _notice(self, sensor: str, fault: StampFault, by_ns: int) -> None:
        if fault is StampFault.CLOCK_SET and not self._continuous:
            return
        now, count = self._clock.monotonic_ns(), self.counts.faults[sensor][fault]
        last_ns, before = self._logged.get((sensor, fault), (None, 0))
        if last_ns is not None and now - last_ns < QUIET_S * 1e9:
            return
        self._logged[sensor, fault] = now, count
        more = f"; {count} of them so far" if before else ""
        _log.warning("sensor %s: %s: %s%s", sensor, fault.value, _in_words(fault, by_ns / 1e9), more)


def _in_words(fault: StampFault, by_s: float) -> str:
    off, side = f"{abs(by_s):.3f} s", "after" if by_s > 0 else "before"
    return {
        StampFault.DUPLICATE: "a reading has the stamp of an earlier one",
        StampFault.OUT_OF_ORDER: f"a reading is stamped {off} before the sensor's newest",
        StampFault.CLOCK_SET: f"its stamps step by {by_s:+.3f} s: its clock was set, or nothing came for so long",
        StampFault.OUT_OF_WINDOW: f"a reading is stamped {off} {side} the frames it came with, and joins none",
    }[fault]
