"""The service in virtual time: its own sessions, admission, batches, pixel requests and ledger, at a given speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cloud_node.config import CloudSettings
from cloud_node.journal import Journal
from cloud_node.ledger import SqliteLedger
from cloud_node.metrics import Metrics
from cloud_node.pipeline import Pipeline
from cloud_node.roster import Roster
from cloud_node.session import Sessions
from fusion.clock import ManualClock
from fusion.errors import ConfigError, FusionError, ModelError, OverloadedError, UnavailableError
from fusion.review import Reviewer, replicated
from fusion.wire.messages import DeviceMessage, ServiceMessage
from fusion.wire.service import Peer
from replay.whatif.link import Pipe, Wire, until
from replay.whatif.outages import Outages
from replay.whatif.timing import Inline
from replay.whatif.world import ServiceSettings

_FOR_NOW = (UnavailableError, OverloadedError)


class TimedService:
    """Make it in the virtual loop, and have `run` run there; `connect` makes streams to it over two pipes.

    Raises `ConfigError` for a reviewer whose replicas have a time of their own.
    """

    def __init__(
        self,
        reviewers: Sequence[Reviewer],
        ledger: Path,
        settings: CloudSettings,
        speed: ServiceSettings,
        clock: ManualClock,
    ) -> None:
        if several := [reviewer.name for reviewer in reviewers if replicated(reviewer)]:
            raise ConfigError(f"reviewer {several[0]}: replicas have a time of their own; take one without for world.*")
        self.fault: FusionError | None = None
        self._clock, self._outages = clock, Outages(speed)
        metrics = Metrics()
        self._journal = Journal(SqliteLedger.open(ledger, keep_evidence=settings.keep_evidence), metrics, Inline(clock))
        roster = Roster(reviewers)
        one = Inline(clock, lambda batch: speed.batch_s(len(batch)))
        executors = {reviewer.name: one for reviewer in reviewers}
        self._pipeline = Pipeline(roster, self._journal, settings, executors, clock, metrics)
        self._sessions = Sessions(roster, self._pipeline, self._journal, settings, clock, metrics)
        self._wires: set[Wire] = set()

    async def run(self) -> None:
        """Review; until cancelled."""
        await asyncio.gather(self._pipeline.run(), self._go_out())

    @asynccontextmanager
    async def connect(self, up: Pipe, down: Pipe) -> AsyncIterator[Wire]:
        """A stream of a device. Raises `UnavailableError` while the service is away."""
        if self._outages.is_out(self._clock.now_ns):
            raise UnavailableError("the service is away")
        wire = Wire(self._clock, up, down, self._serve)
        self._wires.add(wire)
        try:
            yield wire
        finally:
            self._wires.discard(wire)
            wire.cancel()

    def check(self) -> None:
        """Raise what makes waiting for answers pointless: evidence that is not served, a reviewer that fails."""
        if self.fault:
            raise self.fault
        if not self._pipeline.healthy:
            raise ModelError("the reviewer fails on every item")

    def close(self) -> None:
        """Close the ledger."""
        self._journal.close()

    async def _serve(
        self,
        messages: AsyncIterator[DeviceMessage],
        send: Callable[[ServiceMessage], Awaitable[None]],
        peer: Peer,
    ) -> None:
        """Remember what no later stream would end otherwise."""
        try:
            await self._sessions.serve(messages, send, peer)
        except _FOR_NOW:
            raise
        except FusionError as error:
            self.fault = error
            raise

    async def _go_out(self) -> None:
        """Cut every stream when an outage begins."""
        while (out := self._outages.next(self._clock.now_ns)) is not None:
            await until(self._clock, out[0])
            for wire in list(self._wires):
                wire.end(UnavailableError("the service went away"))
            await until(self._clock, out[1])
