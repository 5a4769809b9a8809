"""What a gear does: frames are held back to a rate, and other models look, changed between two samples."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_node.perception import Look, Perception
from edge_node.screener import Decision
from edge_node.settings.power import GearSettings
from edge_node.spool import OutboxBlobs
from fusion.errors import ConfigError, FusionError
from fusion.types import Sample

TOLERANCE = 0.1
"""Share of a period that a frame may be early: stamps jitter."""
Load = Callable[[str], Perception]
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RateGate:
    """Thins frames out to a rate, on the stream's own time; a step of the stamps beyond two periods begins anew."""

    _slot_ns: int | None = None

    def admit(self, time_ns: int, rate_hz: float) -> bool:
        """Whether the frame captured at `time_ns` passes; a rate of 0 is no limit."""
        if not rate_hz:
            self._slot_ns = None
            return True
        period = round(1e9 / rate_hz)
        if self._slot_ns is None or abs(time_ns - self._slot_ns) >= 2 * period:
            self._slot_ns = time_ns
            return True
        if time_ns - self._slot_ns < period * (1 - TOLERANCE):
            return False
        self._slot_ns += period
        return True


class GearedPerception:
    """Whatever perception is in use, at first `own`.

    All stand on one trunk, so `own` detects for them; a change takes effect with the next `fuse`, so that one sample
    has one fusion model.
    """

    def __init__(self, own: Perception) -> None:
        self.own = own
        self._active = self._wanted = own
        self.profile, self.classes, self.conditions = own.profile, own.classes, own.conditions
        self.ordinary, self.models = own.ordinary, own.models

    def use(self, perception: Perception) -> None:
        """Fuse with this one from the next sample on; from any thread."""
        self._wanted = perception

    def detect(self, sample: Sample) -> Look:
        """See `Perception`."""
        return self.own.detect(sample)

    def fuse(self, sample: Sample, look: Look) -> Look:
        """See `Perception`."""
        self._active = self._wanted
        self.models = self._active.models
        return self._active.fuse(sample, look)

    def encode(self, sample: Sample, look: Look, index: int, track: int, decision: Decision) -> OutboxBlobs:
        """See `Perception`; by the one that fused."""
        return self._active.encode(sample, look, index, track, decision)


class Gearbox:
    """Puts gears in. `shift` is called by the power thread, `hold` by the pipeline's; models are loaded by a third.

    Models that were loaded once stay in memory. While they load, and when they cannot be loaded, what looks goes on
    looking; the gear's rate holds at once.
    """

    def __init__(
        self, gears: Sequence[GearSettings], perception: GearedPerception | None = None, load: Load | None = None
    ) -> None:
        self._gears = tuple(gears)
        self._perception, self._load = perception, load
        self._ready = {"": perception.own} if perception else {}
        self._lock = threading.Lock()
        self._wanted = ""
        self._loading: set[str] = set()
        self._gate = RateGate()
        self._held: tuple[float, str] = (0.0, "")

    def shift(self, gear: int, why: str) -> None:
        """Put in gear number `gear`, 0 the highest; `why` is the reason of the gaps it makes."""
        chosen = self._gears[gear]
        self._held = (chosen.rate_hz, why or f"held to {chosen.rate_hz:g} Hz by the power settings")
        with self._lock:
            self._wanted = models = chosen.models
            if self._perception and models in self._ready:
                self._perception.use(self._ready[models])
            elif self._load and models not in self._loading:
                self._loading.add(models)
                threading.Thread(target=self._fetch, args=(models,), name="gear", daemon=True).start()

    def hold(self, time_ns: int) -> str:
        """Why the reference frame captured at `time_ns` is to be skipped; empty when it is not."""
        rate_hz, why = self._held
        return "" if self._gate.admit(time_ns, rate_hz) else why

    def _fetch(self, models: str) -> None:
        assert self._load is not None
        assert self._perception is not None
        loaded, why = None, ""
        try:
            loaded = self._load(models)
        except FusionError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 an engine's defect must not keep the gear from being tried again
            _log.debug("models of %s", models, exc_info=True)
            why = f"{models}: {type(error).__name__}: {' '.join(str(error).split())}"
        if why:
            _log.warning("power: the gear's models cannot be loaded: %s; what looks goes on looking", why)
        with self._lock:
            self._loading.discard(models)
            if loaded:
                self._ready[models] = loaded
                if self._wanted == models:
                    self._perception.use(loaded)


def check_gear(models: str, other: Perception, own: Perception) -> None:
    """Raise `ConfigError` unless `other`, from the folder `models`, may take over from `own` in the middle of a stream.

    They must have one profile, hence one trunk: the uplink announces one when a stream begins, and tracks are boxes in
    pixels of one input. What may differ is what stands on the trunk: another fusion model, its graphs in fewer bits,
    or none.
    """
    if other.profile != own.profile:
        raise ConfigError(
            f"power.gears: {models} has the profile {other.profile[:12]} and the daemon's models {own.profile[:12]}; "
            "a gear's models must stand on the same trunk"
        )
    for name in ("classes", "conditions"):
        if getattr(other, name) != getattr(own, name):
            raise ConfigError(f"power.gears: {models} tells other {name} than the daemon's models")
