"""Keeps as many replicas up as are wanted: starts them, starts lost ones anew after a while, lets surplus ones go."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from fusion.errors import FusionError, ModelError, UnavailableError
from fusion.review.replicas.actor import Fault, Introduction
from fusion.review.replicas.host import Actor, Host
from fusion.review.replicas.name import ReplicasName
from fusion.review.replicas.replica import Replica, told_of

_FIRST_BACK_OFF_S, _MOST_BACK_OFF_S = 0.5, 60.0
_log = logging.getLogger(__name__)


def back_off_s(failures: int) -> float:
    """How long a replica that failed so often without scoring anything is left alone."""
    return float(min(_MOST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2.0 ** min(failures - 1, 10)))


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Berth:
    """The place of one replica: an actor that loads, one that is up, or nobody until `until`."""

    def __init__(self) -> None:
        self.actor: Actor | None = None
        self.replica: Replica | None = None
        self.until = 0.0
        self.failures = 0


class Fleet:
    """One thread does everything to berths; `replicas`, `lost` and `resize` may be called from any."""

    def __init__(self, host: Host, called: ReplicasName) -> None:
        self.introduction: Introduction | None = None
        self._host = host
        self._called = called
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._closed = False
        self._replicas: tuple[Replica, ...] = ()
        self._watchers: list[Callable[[], None]] = []
        self._wanted = called.limits.least
        self._berths: list[_Berth] = []
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._settled = threading.Event()
        self._error: FusionError | None = None
        self._thread = threading.Thread(target=self._run, name="replicas", daemon=True)

    def start(self) -> Introduction:
        """Start the least that may be; raises `ModelError` or `UnavailableError` unless all come up and are alike."""
        self._thread.start()
        if not self._settled.wait(self._called.start_s + 1):
            self._error = UnavailableError(f"no replica within {self._called.start_s:g} s")
        if self._error is not None:
            self.close()
            raise self._error
        assert self.introduction is not None
        return self.introduction

    def replicas(self) -> tuple[Replica, ...]:
        """Those that are up."""
        return self._replicas

    def wait(self, timeout_s: float) -> tuple[Replica, ...]:
        """Those that are up, as soon as there is one; none after `timeout_s` and where it is closed."""
        with self._came:
            self._came.wait_for(lambda: self._replicas or self._closed, timeout_s)
            return self._replicas

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `replicas` changed."""
        self._watchers.append(changed)

    def resize(self, replicas: int) -> None:
        """Want so many."""
        if replicas != self._wanted:
            self._wanted = replicas
            self._events.put(lambda: None)

    def lost(self, replica: Replica, reason: str) -> None:
        """`replica` does not answer; it is out of `replicas` when this returns."""
        self._leave(replica)
        self._events.put(partial(self._failed_of, replica, reason))

    def close(self) -> None:
        """End every actor, also in the middle of a batch."""
        with self._came:
            self._closed = True
            self._came.notify_all()
        self._events.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._tend()
            dues = [berth.until for berth in self._berths if berth.replica is None]
            try:
                event = self._events.get(timeout=max(0.0, min(dues) - time.monotonic()) if dues else None)
            except queue.Empty:
                continue
            if event is None:
                break
            event()
        for berth in self._berths:
            self._end(berth)

    def _tend(self) -> None:
        """Do what is due."""
        while len(self._berths) < self._wanted:
            self._berths.append(_Berth())
        while len(self._berths) > self._wanted:
            self._retire(self._berths.pop())
        now = time.monotonic()
        for berth in self._berths:
            if berth.replica is not None or berth.until > now:
                continue
            if berth.actor is None:
                self._begin(berth)
            else:
                self._failed(berth, berth.actor, f"not up within {self._called.start_s:g} s: {self._resources()}")

    def _resources(self) -> str:
        try:
            return self._host.resources()
        except Exception as error:  # noqa: BLE001 this thread must outlive what the host does
            return f"what there is cannot be told ({_in_words(error)})"

    def _begin(self, berth: _Berth) -> None:
        berth.until = time.monotonic() + self._called.start_s
        try:
            actor = berth.actor = self._host.begin()
        except Exception as error:  # noqa: BLE001 this thread must outlive what one replica does
            self._cannot(berth, _in_words(error))
            return
        if actor is None:
            berth.until = time.monotonic() + _FIRST_BACK_OFF_S
            return
        actor.loaded.add_done_callback(lambda future: self._events.put(partial(self._loaded, berth, actor, future)))
        actor.ended.add_done_callback(lambda future: self._events.put(partial(self._ended, berth, actor, future)))

    def _loaded(self, berth: _Berth, actor: Actor, future: Future[Introduction | Fault]) -> None:
        if berth.actor is not actor:
            return
        if future.exception() is not None:
            self._failed(berth, actor, f"its process ended while it loaded ({told_of(future.exception())})")
            return
        told = future.result()
        if isinstance(told, Fault):
            self._failed(berth, actor, str(told.error))
            return
        self.introduction = self.introduction or told
        if difference := self.introduction.difference(told):
            self._failed(berth, actor, f"replicas of {self._called.reviewer} differ {difference}")
            return
        berth.replica = Replica(actor, told, self._called.timeout_s, self.lost)
        with self._came:
            self._replicas += (berth.replica,)
            self._came.notify_all()
        if len(self._replicas) >= self._called.limits.least:
            self._settled.set()
        self._tell()

    def _ended(self, berth: _Berth, actor: Actor, future: Future[Any]) -> None:
        how = None if future.exception() is not None else future.result()
        self._failed(berth, actor, f"its process ended ({how})" if how else "its process ended")

    def _failed_of(self, replica: Replica, reason: str) -> None:
        for berth in self._berths:
            if berth.replica is replica:
                self._failed(berth, berth.actor, reason)

    def _failed(self, berth: _Berth, actor: Actor | None, reason: str) -> None:
        """The berth is empty, if `actor` still had it."""
        if berth.actor is actor and berth in self._berths:
            self._cannot(berth, reason)

    def _cannot(self, berth: _Berth, reason: str) -> None:
        """The berth is empty, and stays so for a while."""
        if not self._settled.is_set():
            self._error = ModelError(reason)
            self._settled.set()
        berth.failures = 1 if berth.replica is not None and berth.replica.batches else berth.failures + 1
        self._end(berth)
        berth.until = time.monotonic() + back_off_s(berth.failures)
        _log.warning("a replica of %s is lost (%s)", self._called.reviewer, reason)

    def _retire(self, berth: _Berth) -> None:
        if berth.replica is None:
            self._end(berth)
            return
        replica, actor = berth.replica, berth.actor
        assert actor is not None
        self._leave(replica)

        def end() -> None:
            replica.rest()
            self._kill(actor)

        threading.Thread(target=end, name="retire", daemon=True).start()

    def _end(self, berth: _Berth) -> None:
        if berth.actor is not None:
            self._kill(berth.actor)
        if berth.replica is not None:
            self._leave(berth.replica)
        berth.actor = berth.replica = None

    def _kill(self, actor: Actor) -> None:
        try:
            actor.kill()
        except Exception as error:  # noqa: BLE001 the others must be tended, and ended, all the same
            _log.warning("a replica of %s cannot be ended (%s)", self._called.reviewer, _in_words(error))

    def _leave(self, replica: Replica) -> None:
        with self._lock:
            before, self._replicas = self._replicas, tuple(one for one in self._replicas if one is not replica)
        if len(before) > len(self._replicas):
            self._tell()

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()
