"""A watt budget on recorded time: the device's own governor and gears over a meter that draws what the settings say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edge_node.power import Measure, Power
from edge_node.settings.power import PowerSettings
from edge_node.spool import Record, SampleRecord
from fusion.clock import ManualClock
from fusion.types import Reading
from replay.whatif.world import DrawSettings

_LONGEST_NS = 60_000_000_000
"""Of a longer pause in the recording only the end is played."""


class DrawnMeter:
    """Draws `idle_w` always, and what each sample that is `add`ed costs."""

    name = "world.power"
    covers = "the device, as world.power says"

    def __init__(self, settings: DrawSettings) -> None:
        self._settings = settings
        self._joules = 0.0
        self._read_ns: int | None = None

    def add(self, gear: int) -> None:
        """A sample was processed in `gear`."""
        self._joules += self._settings.joules(gear)

    def read(self, now_ns: int) -> Measure:
        """See `Meter`."""
        before, self._read_ns = self._read_ns, now_ns
        joules, self._joules = self._joules, 0.0
        if before is None or now_ns <= before:
            return Measure()
        joules += self._settings.idle_w * (now_ns - before) / 1e9
        return Measure(joules / ((now_ns - before) / 1e9), joules)

    def close(self) -> None:
        """See `Meter`."""


class TimedPower:
    """The daemon's power part, driven by the frames of the sensor `reference`."""

    def __init__(self, settings: PowerSettings, draw: DrawSettings, reference: str) -> None:
        self._clock, self._meter, self._reference = ManualClock(), DrawnMeter(draw), reference
        self._power = Power(settings, self._meter, clock=self._clock)
        self._period_ns = round(settings.period_s * 1e9)
        self._samples: Counter[int] = Counter()
        self._held = 0
        self._last_ns: int | None = None

    def hold(self, reading: Reading) -> str:
        """Why the reading is a frame to be skipped; empty when it is not."""
        if reading.sensor != self._reference:
            return ""
        self._reach(reading.capture_time_ns)
        why = self._power.hold(reading.capture_time_ns)
        self._held += bool(why)
        return why

    def observe(self, record: Record) -> None:
        """Count a processed sample, and what it drew."""
        self._power.observe(record)
        if isinstance(record, SampleRecord):
            self._meter.add(self.gear)
            self._samples[self.gear] += 1

    @property
    def gear(self) -> int:
        """The gear now, 0 the highest."""
        return self._power.status.gear or 0

    def facts(self) -> dict[str, Any]:
        """What it came to."""
        self._power.step()
        told = self._power.summary()
        return {
            "seconds": self._clock.now_ns / 1e9,
            "power_w_mean": told["power_w_mean"],
            "joules_per_sample": told["joules_per_sample"],
            "frames_held": self._held,
            "samples_by_gear": [self._samples[gear] for gear in range(max(self._samples, default=0) + 1)],
        }

    def _reach(self, stream_ns: int) -> None:
        """Read the meter each period up to recorded time `stream_ns`; where that goes back, no time passes."""
        past_ns = 0 if self._last_ns is None else max(0, stream_ns - self._last_ns)
        if self._last_ns is None:
            self._power.step()
        self._last_ns = stream_ns
        if past_ns > _LONGEST_NS:
            self._clock.advance(past_ns - _LONGEST_NS)
            past_ns = _LONGEST_NS
        ends_ns = self._clock.now_ns + past_ns
        while (due_ns := (self._clock.now_ns // self._period_ns + 1) * self._period_ns) <= ends_ns:
            self._clock.advance(due_ns - self._clock.now_ns)
            self._power.step()
        self._clock.advance(ends_ns - self._clock.now_ns)
