"""Virtual time: an event loop whose clock is moved by whoever runs it, so that both nodes' own code waits in no time.

Nothing in it depends on the host's clock or on another thread, so the same events happen at the same moments in every
run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from fusion.clock import ManualClock

T = TypeVar("T")
P = ParamSpec("P")


class _Waiting(selectors.SelectSelector):
    """Instead of waiting, moves the clock to where the loop has something to do."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; after it, `timeout` seconds have passed."""
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            raise RuntimeError("virtual time stands still: nothing will ever happen")
        self._clock.advance(max(1, math.ceil(timeout * 1e9)))
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_Waiting(clock))
        self._virtual = clock
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._virtual.now_ns / 1e9


class VirtualTime:
    """Nanoseconds since the recording's first sample on `clock`, with tasks that live in it. Close it at the end."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._loop = _Loop(self.clock)
        self._tasks: list[asyncio.Task[Any]] = []
        self._stream_ns: int | None = None

    def start(self, part: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have `part` run whenever time passes; what it raises, `reach` and `wait` raise."""
        task = self._loop.create_task(part)
        self._tasks.append(task)
        return task

    def reach(self, stream_ns: int) -> None:
        """Let everything happen up to recorded time `stream_ns`; where that goes back, no time passes."""
        past = 0 if self._stream_ns is None else max(0, stream_ns - self._stream_ns)
        self._stream_ns = stream_ns
        self.wait(past / 1e9)

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        ends = self.clock.now_ns + round(seconds * 1e9)
        self._loop.run_until_complete(asyncio.sleep(seconds))
        if self.clock.now_ns < ends:
            self.clock.advance(ends - self.clock.now_ns)
        self.check()

    def run(self, part: Coroutine[Any, Any, T]) -> T:
        """Let time pass until `part` is through; its result."""
        return self._loop.run_until_complete(part)

    def check(self) -> None:
        """Raise what a part raised."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def close(self) -> None:
        """End everything that still runs; may be called twice."""
        if self._loop.is_closed():
            return
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        with contextlib.suppress(BaseException):
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()


class Inline(Executor):
    """Works in the caller's thread, one job after another; `cost_s` says what a job takes in virtual time."""

    def __init__(self, clock: ManualClock, cost_s: Callable[..., float] = lambda *_: 0.0) -> None:
        self._clock, self._cost_s = clock, cost_s
        self._free_ns = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor`; the future is done when the work is, in virtual time."""
        future: Future[T] = Future()
        try:
            result = fn(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 whoever waits for it is told
            future.set_exception(error)
            return future
        took_ns = round(self._cost_s(*args) * 1e9)
        if not took_ns:
            future.set_result(result)
            return future
        self._free_ns = max(self._free_ns, self._clock.now_ns) + took_ns
        delay_s = (self._free_ns - self._clock.now_ns) / 1e9
        asyncio.get_running_loop().call_later(delay_s, _settle, future, result)
        return future


def _settle(future: Future[T], result: T) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(result)
