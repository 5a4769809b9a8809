"""Slows guessing down: after some failures every further one doubles the wait, by address and by user."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

FREE = 5
"""Failures without a wait."""

LONGEST_S = 300.0
FORGET_S = 3600.0
MOST = 10_000


class Throttle:
    """Counts failures by key (an address, a user). `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, *keys: str) -> float:
        """How long until any of `keys` may try again; 0 for now."""
        with self._lock:
            return max(self._wait(key) for key in keys)

    def failed(self, *keys: str) -> None:
        """A try of `keys` failed."""
        now = self._clock()
        with self._lock:
            for key in keys:
                count, last = self._failed.pop(key, (0, now))
                self._failed[key] = (1 if now - last > FORGET_S else count + 1, now)
                if len(self._failed) > MOST:
                    self._failed.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget what `keys` did wrong."""
        with self._lock:
            for key in keys:
                self._failed.pop(key, None)

    def _wait(self, key: str) -> float:
        count, last = self._failed.get(key, (0, 0.0))
        if count < FREE:
            return 0.0
        return max(0.0, last + min(LONGEST_S, 2.0 ** min(count - FREE, 30)) - self._clock())
