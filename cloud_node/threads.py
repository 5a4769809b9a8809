"""Threads for what may hang: Python waits for every thread of a `ThreadPoolExecutor` before it ends, for these not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DaemonThreads(Executor):
    """At most `threads` daemon threads, started as they are needed; calls begin in the order they were submitted."""

    def __init__(self, threads: int, name: str) -> None:
        self._most, self._name = threads, name
        self._lock = threading.Lock()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._over = False

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """See `Executor.submit`. Raises `RuntimeError` after `shutdown`."""
        future: Future[_T] = Future()
        with self._lock:
            if self._over:
                raise RuntimeError(f"the threads {self._name} take no more calls")
            self._calls.put((future, partial(fn, *args, **kwargs)))
            if len(self._threads) < self._most:
                name = f"{self._name}_{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor.shutdown`."""
        with self._lock:
            self._over = True
            if cancel_futures:
                self._cancel()
            for _ in self._threads:
                self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def end(self, seconds: float) -> bool:
        """Cancel what has not begun and wait, for `seconds` at most, for what has; False where a call still hangs."""
        self.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _cancel(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                if (call := self._calls.get_nowait()) is not None:
                    call[0].cancel()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            _perform(*call)
            del call


def _perform(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 the future holds it
        future.set_exception(error)
    else:
        future.set_result(result)
