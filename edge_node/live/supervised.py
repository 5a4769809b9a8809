"""A sensor or a trigger under supervision: opened, passed on what it delivers, and opened again when it ends."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from edge_node.live.drivers import shown
from edge_node.live.health import SensorHealth
from edge_node.settings.live import SupervisedSettings
from fusion.clock import Clock
from fusion.errors import FusionError

STEADY_S = 5.0
"""What ran that long and fails begins its back-off anew."""
_log = logging.getLogger(__name__)


class Closable(Protocol):
    """What is open."""

    def close(self) -> None:
        """End it soon; from any thread, more than once, without waiting."""


Opened = TypeVar("Opened", bound=Closable)
Given = TypeVar("Given")


@dataclass(slots=True, eq=False)
class Supervised(Generic[Opened, Given]):
    """`run` is a thread's work until `close`: `opening`, then `take` each of what the opened one has `given`."""

    settings: SupervisedSettings
    health: SensorHealth
    clock: Clock
    opening: Callable[[], Opened]
    given: Callable[[Opened], Iterable[Given]]
    take: Callable[[Given], None]
    _opened: Opened | None = None
    _open_ns: int | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `close`; what fails is opened again after a pause."""
        failures, jitter, settings = 0, random.Random(), self.settings
        while not self._stop.is_set():
            why = self._once()
            if self._stop.is_set():
                return
            self.health.failed(why)
            failures = 1 if self._was_steady() else failures + 1
            pause = min(settings.backoff_max_s, settings.backoff_first_s * 2 ** min(failures - 1, 20))
            self._stop.wait(pause * jitter.uniform(0.5, 1.0))
            self.health.restarted()

    def close(self) -> None:
        """End `run` soon; from any thread."""
        self._stop.set()
        if opened := self._opened:
            opened.close()

    def _was_steady(self) -> bool:
        """Whether it ran long enough; what it takes not to open, a camera's five seconds, does not count."""
        return self._open_ns is not None and self.clock.monotonic_ns() - self._open_ns > STEADY_S * 1e9

    def _once(self) -> str:
        """Open it and pass on what it delivers; why it ended."""
        where, self._open_ns = shown(self.settings.url), None
        try:
            opened = self._opened = self.opening()
            self._open_ns = self.clock.monotonic_ns()
            try:
                if self._stop.is_set():
                    return ""
                for one in self.given(opened):
                    if self._stop.is_set():
                        break
                    self.take(one)
            finally:
                opened.close()
                self._opened = None
        except FusionError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 one driver's defect must not end the others
            _log.debug("driver of %s", where, exc_info=True)
            return f"{where}: a defect in its driver: {type(error).__name__}: {' '.join(str(error).split())}"
        return f"{where}: the stream ended"
