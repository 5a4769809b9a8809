"""The daemon's power thread: reads meter and thermal zones, keeps the energy book, and shifts gears.

Nothing here ends the daemon: a sensor that fails is told once, and once again when it is back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_node.power.discovery import find_meter
from edge_node.power.energy import GAP_NS, EnergyBook, Work
from edge_node.power.gearbox import Gearbox, GearedPerception, Load
from edge_node.power.governor import Governor, Smoothed
from edge_node.power.meter import Measure, Meter
from edge_node.power.thermal import Thermals, find_thermals
from edge_node.settings.power import PowerSettings
from edge_node.spool import Record, SampleRecord
from fusion.clock import Clock, SystemClock
from fusion.errors import ConfigError, UnavailableError

THERMAL_NS = 1_000_000_000
"""Temperatures change slowly, and on some boards reading one takes milliseconds."""
_END_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """What is known now; None and empty for what is not measured, `why` says for what reason."""

    watts: float | None = None
    joules: float | None = None
    covers: str = ""
    why: str = ""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    gear: int | None = None
    at_ns: int | None = None


class Power:
    """Measures from `start` to `stop`. Without a meter, `why` says why there is none, and all figures are None."""

    def __init__(
        self,
        settings: PowerSettings,
        meter: Meter | None = None,
        why: str = "",
        *,
        thermals: Thermals | None = None,
        gearbox: Gearbox | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.gearbox = gearbox or Gearbox(settings.gears)
        self._settings, self._meter = settings, meter
        self._thermals = thermals or Thermals({})
        self._clock = clock or SystemClock()
        self._governor = Governor.of(settings)
        self._smoothed = Smoothed(settings.react_s)
        self._book = EnergyBook(self._clock.monotonic_ns())
        self._samples = 0
        self._reviews: Callable[[], int] = lambda: 0
        self._warm_ns: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)
        self._status = Status(covers=meter.covers if meter else "", why=why)
        if self._governor:
            self.gearbox.shift(0, "")

    @classmethod
    def off(cls) -> Power:
        """Nothing is measured and nothing governed."""
        settings = PowerSettings(source="off")
        return cls(settings, *find_meter("off"))

    @classmethod
    def open(
        cls,
        settings: PowerSettings,
        perception: GearedPerception,
        load: Load,
        *,
        root: Path = Path("/"),
        clock: Clock | None = None,
    ) -> Power:
        """What the settings ask for, found below `root`; `load` makes the perception of a gear's model folder.

        Raises `ConfigError` when a limit is set on what cannot be measured here.
        """
        meter, why = find_meter(settings.source, root, period_s=settings.period_s)
        thermals = find_thermals(root)
        gearbox = Gearbox(settings.gears, perception, load)
        made = cls(settings, meter, why, thermals=thermals, gearbox=gearbox, clock=clock)
        if settings.budget_watts and meter is None:
            raise ConfigError(f"power.budget_watts = {settings.budget_watts:g}: power is not measured here: {why}")
        if settings.limit_c and not thermals.read():
            made.stop()
            raise ConfigError(f"power.limit_c = {settings.limit_c:g}: no thermal zone can be read here")
        return made

    @property
    def status(self) -> Status:
        """What is known now. A reading as old as a gap in the book is not known any more."""
        found = self._status
        idle_ns = self._clock.monotonic_ns() - found.at_ns if found.at_ns is not None else 0
        if idle_ns <= GAP_NS:
            return found
        return replace(found, watts=None, temperatures={}, why=f"no reading for {idle_ns / 1e9:.0f} s")

    def start(self, reviews: Callable[[], int]) -> None:
        """Begin; `reviews` counts the answers so far."""
        self._reviews = reviews
        self._book = EnergyBook(self._clock.monotonic_ns())
        if self._meter or self._thermals.zones:
            self._thread.start()

    def stop(self) -> None:
        """Read a last time and let go of the meter. May be called twice, and without `start`."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        if self._meter:
            self._meter.close()

    def observe(self, record: Record) -> None:
        """Count a processed sample."""
        self._samples += isinstance(record, SampleRecord)

    def hold(self, time_ns: int) -> str:
        """Why the reference frame captured at `time_ns` is to be skipped; empty when it is not."""
        return self.gearbox.hold(time_ns)

    def step(self) -> None:
        """Read everything once and decide; what the thread does each period."""
        now = self._clock.monotonic_ns()
        measure, why = self._measure(now)
        self._book.add(now, measure, Work(self._samples, self._reviews()))
        watts = measure.watts if measure else None
        joules = self._book.joules if self._book.measured_ns else None
        if self._warm_ns is None or now - self._warm_ns >= THERMAL_NS:
            self._warm_ns = now
            self._status = replace(self._status, temperatures=self._thermals.read())
        gear = self._govern(now, watts)
        self._status = replace(self._status, watts=watts, joules=joules, why=why, gear=gear, at_ns=now)

    def summary(self) -> dict[str, Any]:
        """Figures since `start`: watts, joules and seconds, None where nothing was measured."""
        book = self._book
        return {
            "power_source": self._meter.name if self._meter else None,
            "power_w_mean": _rounded(book.watts_mean),
            "joules_per_sample": _rounded(book.joules_per_sample),
            "joules_per_review": _rounded(book.joules_per_review),
            "unmeasured_s": _rounded(book.unmeasured_s(self._clock.monotonic_ns())),
        }

    def source(self) -> str:
        """What is read, for the line that says that the daemon works."""
        if self._meter:
            return f"power from {self._meter.name} ({self._meter.covers})"
        return f"power not measured: {self._status.why}"

    def told(self) -> str:
        """What is drawn now, in words."""
        now = self.status
        if now.watts is None:
            return f"not measured: {now.why or 'not read yet'}"
        return f"{now.watts:.2f} W by {now.covers}"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.step()
                self._stop.wait(self._settings.period_s)
            self.step()
        except Exception as error:  # noqa: BLE001 whatever it is, the daemon goes on without power
            _log.exception("power is not measured any more: a defect in the daemon")
            self._status = replace(self._status, watts=None, temperatures={}, why=f"a defect: {error!r}")

    def _measure(self, now_ns: int) -> tuple[Measure | None, str]:
        if self._meter is None:
            return None, self._status.why
        before = self._status.why
        try:
            measure = self._meter.read(now_ns)
        except UnavailableError as error:
            if not before:
                _log.warning("power is not measured any more: %s", error)
            return None, str(error)
        if before:
            _log.info("power is measured again, from %s", self._meter.name)
        return measure, ""

    def _govern(self, now_ns: int, watts: float | None) -> int | None:
        governor = self._governor
        if governor is None:
            return None
        before = governor.gear
        mean = self._smoothed.add(now_ns, watts)
        warmest = max(self._status.temperatures.values(), default=None)
        gear = governor.update(now_ns, mean, warmest)
        if gear != before:
            self.gearbox.shift(gear, governor.cause)
            state = ", ".join(f"{v:.1f} {unit}" for v, unit in ((mean, "W"), (warmest, "°C")) if v is not None)
            _log.info(
                "power: gear %d of %d (%s)%s", gear + 1, governor.gears, state, governor.cause and f", {governor.cause}"
            )
        return gear


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
