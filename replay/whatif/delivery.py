"""Evidence on its way in virtual time: the device's own uplink over a link and to a service that take their time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from edge_node.spool import Record, Spool, SpoolWorker
from edge_node.uplink import Identity, LinkState, Uplink
from edge_node.uplink.diagnosis import Diagnosis
from fusion.review import Reviewer
from fusion.types import ItemState
from replay.running.lane import remove_database
from replay.running.plan import Prepared
from replay.whatif.link import Pipe
from replay.whatif.outages import Outages
from replay.whatif.service import TimedService
from replay.whatif.timing import VirtualTime

FOREVER_NS = 86_400 * 10**9
"""Who is out for longer, in virtual time, is not waited for."""
STEP_S = 0.25
"""How often, in virtual time, it is looked at whether all is answered."""
T = TypeVar("T")


class InlineSpool(SpoolWorker):
    """A spool that commits each action at once, in the caller's thread."""

    def store(self, record: Record) -> Future[None]:
        """See `SpoolWorker`."""
        return self.call(lambda spool: spool.commit([record]))

    def call(self, action: Callable[[Spool], T]) -> Future[T]:
        """See `SpoolWorker`."""
        future: Future[T] = Future()
        with self._spool.transaction():
            result = action(self._spool)
        future.set_result(result)
        return future


class InTime:
    """A `Delivery` that takes time, and tells what it came to (`facts`).

    Everything is decided by the nodes' own code: what is sent next, how much may be unanswered, when a stream is given
    up, what expires, what is thinned, which pixels are asked for.
    """

    def __init__(
        self, spool: Spool, identity: Identity, reviewers: Sequence[Reviewer], ledger: Path, one: Prepared,
        time: VirtualTime,
    ) -> None:  # fmt: skip
        remove_database(ledger)
        self._spool, self._time, self._link = spool, time, one.world.link
        self._answers_s = one.edge.drain.answers_s + one.edge.uplink.ack_timeout_s
        self._outages = Outages(self._link)
        self._cloud_outages = Outages(one.world.cloud)
        self._facts: dict[str, Any] = {}
        time.run(self._begin(identity, reviewers, ledger, one))

    async def _begin(self, identity: Identity, reviewers: Sequence[Reviewer], ledger: Path, one: Prepared) -> None:
        clock, link = self._time.clock, self._link
        self._service = TimedService(reviewers, ledger, one.cloud, one.world.cloud, clock)
        self._up = Pipe(clock, self._outages, link.bytes_per_s, link.latency_ms)
        down = Pipe(clock, self._outages, None, link.latency_ms)
        self._uplink = Uplink(
            one.edge.uplink.model_copy(update={"address": "world.link"}), identity, InlineSpool(self._spool), clock,
            connect=lambda: self._service.connect(self._up, down), jitter=random.Random(one.world.seed),
            explain=_offline,
        )  # fmt: skip
        self._time.start(self._service.run())
        self._running = self._time.start(self._uplink.run())

    def advance(self, now_ns: int) -> None:
        """See `Delivery`; time itself is moved by the lane."""
        del now_ns
        self._uplink.wake()
        self._time.wait(0)

    def finish(self) -> None:
        """Wait as the settings say, then close what has no answer as expired."""
        recorded_ns, waiting = self._time.clock.now_ns, self._spool.waiting()
        self._uplink.finish()
        why = self._wait()
        for sequence, item in self._spool.query("SELECT sequence, item FROM outbox ORDER BY id"):
            self._spool.answer(self._spool.item_id(sequence, item), ItemState.EXPIRED, None, why)
        now_ns, counts = self._time.clock.now_ns, self._uplink.counts
        self._facts = {
            "rate_bytes_per_s": self._link.bytes_per_s,
            "bytes": self._up.bytes,
            "busy_s": self._up.busy_ns / 1e9,
            "recorded_s": recorded_ns / 1e9,
            "seconds": now_ns / 1e9,
            "outage_s": (recorded_ns - self._outages.worked_ns(0, recorded_ns)) / 1e9,
            "cloud_outage_s": (recorded_ns - self._cloud_outages.worked_ns(0, recorded_ns)) / 1e9,
            "streams": counts.streams,
            "sent_again": counts.sent_again,
            "refused_for_now": counts.refused_for_now,
            "pixels_asked": counts.pixels_asked,
            "waiting_at_end": waiting,
        }
        self.close()

    def close(self) -> None:
        """Let go of the ledger."""
        self._service.close()

    @property
    def facts(self) -> dict[str, Any]:
        """What only the run itself knows, once it is over."""
        return self._facts

    def _wait(self) -> str:
        """Until all is answered or there is no point in waiting; why what is left has no answer."""
        clock, after_s = self._time.clock, self._link.after_s
        began_ns = before_ns = clock.now_ns
        silent_ns, waiting = 0, self._spool.waiting()
        while not self._running.done():
            self._service.check()
            past_s = (clock.now_ns - began_ns) / 1e9
            if after_s is not None and past_s >= after_s:
                return f"no answer {after_s:g} s after the recording"
            left = self._spool.waiting()
            if (back_ns := self._back_ns()) > clock.now_ns + FOREVER_NS:
                return "no answer: it is out for more than a day after the recording"
            if left != waiting:
                silent_ns, waiting = 0, left
            elif back_ns <= clock.now_ns:  # what is out does not answer
                silent_ns += clock.now_ns - before_ns
            before_ns = clock.now_ns
            if silent_ns / 1e9 > self._answers_s:
                return f"no answer for {self._answers_s:g} s after the recording"
            self._time.wait(STEP_S if after_s is None else min(STEP_S, max(after_s - past_s, 1e-6)))
        return "not served"

    def _back_ns(self) -> int:
        """When link and service are there again; now or earlier when they are."""
        now_ns = self._time.clock.now_ns
        coming = [outages.next(now_ns) for outages in (self._outages, self._cloud_outages)]
        return max((out[1] for out in coming if out is not None and out[0] <= now_ns), default=now_ns)


async def _offline(address: str, tls: object, fault: str) -> Diagnosis:
    """What the uplink would find out by asking the socket."""
    del address, tls
    return Diagnosis(LinkState.OFFLINE, fault)
