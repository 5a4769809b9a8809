"""Who may wait: a bounded queue and a window a device. Decides from a submission's header; nothing is decoded yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cloud_node.config import QueueSettings
from fusion.errors import OverloadedError

MIN_RETRY_S = 0.05
MAX_RETRY_S = 30.0


class Admission:
    """Counts what is open and what waits. `drain_ns` says how long the review of what waits will take."""

    def __init__(self, settings: QueueSettings, drain_ns: Callable[[], int]) -> None:
        self._settings = settings
        self._drain_ns = drain_ns
        self._open: Counter[str] = Counter()
        self.items = 0
        self.tokens = 0

    def open(self, device: str) -> None:
        """Count a submission without an answer; raises `OverloadedError` when the device's window is full."""
        if self._open[device] >= self._settings.window:
            raise OverloadedError(
                f"device {device} has {self._settings.window} items without an answer, its whole window",
                retry_after_s=self.retry_after_s(),
            )
        self._open[device] += 1

    def close(self, device: str) -> None:
        """The submission is answered."""
        self._open[device] -= 1
        if not self._open[device]:
            del self._open[device]

    def enter(self, tokens: int) -> None:
        """Let an item wait; raises `OverloadedError` when the queue is full."""
        if self.items + 1 > self._settings.items or self.tokens + tokens > self._settings.tokens:
            raise OverloadedError(
                f"the queue is full ({self.items} items of {self.tokens} tokens)", retry_after_s=self.retry_after_s()
            )
        self.enter_again(tokens)

    def enter_again(self, tokens: int) -> None:
        """Let an item wait that was admitted before, whatever the queue's length."""
        self.items += 1
        self.tokens += tokens

    def leave(self, tokens: int) -> None:
        """The item waits no more."""
        self.items -= 1
        self.tokens -= tokens

    @property
    def fill(self) -> float:
        """The share of the queue that is taken, by items or tokens, whichever is more; above 1 for what came again."""
        return max(self.items / self._settings.items, self.tokens / self._settings.tokens)

    def retry_after_s(self) -> float:
        """When trying again makes sense: about half of what waits will be done by then."""
        return min(MAX_RETRY_S, max(MIN_RETRY_S, self._drain_ns() / 2e9))
