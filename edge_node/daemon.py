"""The edge daemon: source, pipeline, spool and uplink under one roof, from start to drained end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_node.config import EdgeSettings
from edge_node.factory import PipelineFactory
from edge_node.live import LiveSource
from edge_node.miss_rate import MissRateWatch, miss_rate
from edge_node.perception import Perception
from edge_node.pipeline import Pipeline
from edge_node.power import Power
from edge_node.process import resident_mib, seconds_since_start
from edge_node.runner import Runner
from edge_node.sources import Source
from edge_node.spool import Record, Resume, Spool, SpoolWorker
from edge_node.summary import spool_summary
from edge_node.supervision import READY, STOPPING, Supervisor
from edge_node.tracing import Journeys
from edge_node.uplink import Identity, LinkState, Uplink
from edge_node.vitals import Vitals
from fusion.clock import Clock, SystemClock
from fusion.errors import UnavailableError
from fusion.task import Task
from fusion.tracing import OFF, Tracer

STEP_S = 0.1
_FAREWELL_S = 2.0
_BOOKS_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon is composed of; the spool, the power meter and the tracer become the daemon's own."""

    task: Task
    source: Source
    perception: Perception
    spool: Spool
    power: Power = field(default_factory=Power.off)
    tracer: Tracer = OFF


class Daemon:
    """Composed of its parts; `run` blocks until the end. One run an object.

    `until_done` ends once the source ended and everything is answered. `ready` is told the one line that says
    that the daemon works.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        parts: Parts,
        *,
        until_done: bool = False,
        clock: Clock | None = None,
        ready: Callable[[str], None] = print,
    ) -> None:
        self.settings = settings
        self.parts = parts
        self.summary: dict[str, Any] = {}
        self._until_done = until_done
        self._clock = clock or SystemClock()
        self._ready = ready
        self._start_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._missed = MissRateWatch(lambda: miss_rate(settings.spool.path, parts.task), self._clock)
        self._factory = PipelineFactory(settings, parts.task, parts.source, parts.perception, self._clock)
        self._live = parts.source if isinstance(parts.source, LiveSource) else None
        if self._live:
            self._live.declare(self._factory.reference)

    def run(self) -> None:
        """Work until SIGTERM or, with `until_done`, the end. Raises what ended it otherwise; sets `summary`."""
        asyncio.run(self._main())

    def stop(self) -> None:
        """End as on SIGTERM; from any thread, once it runs."""
        if self._loop:
            _soon(self._loop, self._stop.set)

    async def _main(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._source_over = asyncio.Event()
        self._worker = SpoolWorker(self.parts.spool, on_stored=lambda: _soon(loop, self._uplink.wake))
        self._journeys = self._trace()
        self._vitals = Vitals(self._clock, self.parts.power, lambda: self._uplink.counts.sent_bytes)
        self._uplink = Uplink(
            self.settings.uplink, self._identity(), self._worker, self._clock,
            journeys=self._journeys, status=self._vitals.status,
        )  # fmt: skip
        self._runner = Runner(
            self.parts.source, self.settings.source, self._factory.reference, self._worker, self._clock,
            self._pipeline, lambda: _soon(loop, self._source_over.set), self._hold,
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            stack.callback(self.parts.tracer.exporter.close)
            stack.callback(self._worker.close)
            stack.callback(self.parts.power.stop)
            if self._live:
                stack.callback(self._live.close)
            self._observe = self._serve_metrics(stack)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
                stack.callback(loop.remove_signal_handler, number)
            self._announce()
            self._worker.start()
            self.parts.power.start(lambda: self._uplink.counts.verdicts)
            self._runner.start()
            link = asyncio.create_task(self._uplink.run())
            supervisor = Supervisor.of_environment()
            supervisor.tell(READY)
            alive = asyncio.create_task(supervisor.stay_alive(self._works))
            try:
                await self._work(link)
            finally:
                supervisor.tell(STOPPING)
                await self._end(link)
                alive.cancel()
        if self._worker.failure:
            raise self._worker.failure

    async def _work(self, link: asyncio.Task[None]) -> None:
        """Until it is time to end. Raises what went wrong."""
        over = asyncio.create_task(self._source_over.wait())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({over, stop, link}, return_when=asyncio.FIRST_COMPLETED)
            if link.done():
                link.result()
            if over.done() and not self._runner.error:
                if self._until_done:
                    await self._all_answered(stop, link)
                else:
                    _log.info("the source has ended; waiting for answers until SIGTERM")
                    await asyncio.wait({stop, link}, return_when=asyncio.FIRST_COMPLETED)
                    if link.done():
                        link.result()
        finally:
            over.cancel()
            stop.cancel()

    async def _all_answered(self, stop: asyncio.Task[Any], link: asyncio.Task[None]) -> None:
        """Wait for all answers, giving up after `drain.answers_s` without a new one."""
        self._uplink.finish()
        limit_s, counts = self.settings.drain.answers_s, self._uplink.counts
        seen, since_ns = -1, self._clock.monotonic_ns()
        while not stop.done() and not link.done():
            answers = counts.verdicts + counts.refused
            if answers != seen:
                seen, since_ns = answers, self._clock.monotonic_ns()
            await asyncio.wait({stop, link}, timeout=STEP_S, return_when=asyncio.FIRST_COMPLETED)
            waited_s = (self._clock.monotonic_ns() - since_ns) / 1e9
            if waited_s > min(limit_s, _FAREWELL_S) and not await self._waiting():
                return
            if waited_s > limit_s:
                raise await self._unanswered(f"no answer for {limit_s:g} s ({self._uplink.reason or 'connected'})")
        if link.done():
            link.result()
            if await self._waiting():
                raise await self._unanswered("the service does not serve the trunk of some evidence")

    async def _unanswered(self, why: str) -> UnavailableError:
        waiting, path = await self._waiting(), self.settings.spool.path
        return UnavailableError(
            f"{self.settings.uplink.address}: {why}; {waiting} items stay in {path}, start again to go on"
        )

    async def _end(self, link: asyncio.Task[None]) -> None:
        """Stop reading, commit, deliver what can be delivered within the grace, and write the books."""
        ends = self._clock.monotonic_ns() + round(self.settings.drain.grace_s * 1e9)
        if self._live:
            await asyncio.to_thread(self._live.close)  # what it still holds is processed: nobody can read it again
        else:
            self._runner.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain.grace_s):
                await self._source_over.wait()
        self._runner.stop()
        self._uplink.finish()
        if not link.done():
            left_s = (ends - self._clock.monotonic_ns()) / 1e9
            if self._uplink.state is LinkState.CONNECTED:
                await asyncio.wait({link}, timeout=max(0.0, left_s - _FAREWELL_S))
            self._uplink.leave()
            await asyncio.wait({link}, timeout=_FAREWELL_S)
            link.cancel()
        await asyncio.gather(link, return_exceptions=True)
        self.parts.power.stop()
        if not self._worker.failure:
            with contextlib.suppress(TimeoutError):  # a full disk may keep the spool busy for good
                async with asyncio.timeout(_BOOKS_S):
                    await asyncio.wrap_future(self._worker.call(self._sum_up))
        if self._runner.error:
            raise self._runner.error

    def _hold(self, capture_time_ns: int) -> str:
        """Why a reference frame is skipped; a live source must be asked of each."""
        overdue = self._live.hold(capture_time_ns) if self._live else ""
        return overdue or self.parts.power.hold(capture_time_ns)

    def _pipeline(self, resume: Resume, sequence: int, store: Callable[[Record], object]) -> Pipeline:
        def observed(record: Record) -> None:
            store(record)
            self._observe(record)
            self._vitals.observe(record)
            self.parts.power.observe(record)
            if self._journeys:
                self._journeys.observe(record)

        return self._factory.make(resume, sequence, self.parts.spool.epoch, observed)

    def _trace(self) -> Journeys | None:
        """Have the spool tell of closed items, where they are traced."""
        if not self.parts.tracer.on:
            return None
        journeys = Journeys(self.parts.tracer, self._worker, self._clock, lambda: self._uplink.offset)
        self.parts.spool.on_closed = journeys.closed
        return journeys

    def _identity(self) -> Identity:
        spool, seen = self.parts.spool, self.parts.perception
        return Identity(spool.device, spool.epoch, self.parts.task.name, seen.models, seen.profile)

    def _announce(self) -> None:
        self._start_s = round(seconds_since_start(), 3)
        spool, settings = self.parts.spool, self.settings
        ((track,),) = spool.query("SELECT coalesce(max(track), 0) FROM items")
        self._factory.count_tracks_from(track + 1)
        spool.note_audit_rate(settings.screening.audit_rate)
        resume = spool.resume(self.parts.source.content, settings.source.run)
        if resume.finished and not settings.source.loop:
            _log.info(
                "run %r has read %s to its end; another source.run reads it again", settings.source.run,
                settings.source.label,
            )  # fmt: skip
        where = f"at position {resume.cursor}, sample {spool.next_sequence} next"
        self._ready(
            f"ready: started in {self._start_s:.2f} s, {resident_mib()[0]:.0f} MiB resident, "
            f"device {spool.device}, task {spool.task}, epoch {spool.epoch}, {where}; {self.parts.power.source()}"
        )
        for notice in spool.notices:
            _log.warning("%s", notice)
        spool.notices.clear()

    def _sum_up(self, spool: Spool) -> None:
        now, peak = resident_mib()
        offset = self._uplink.offset
        self.summary = {
            **spool_summary(spool),
            "waiting": spool.waiting(),
            "source_ended": self._runner.ended,
            "pace": self._runner.lateness.told(),
            "edge_rss_mb": round(now, 1),
            "edge_rss_peak_mb": round(peak, 1),
            "edge_start_s": self._start_s,
            "synchronizer": self._factory.stamps.summary(),
            "uplink": {"state": self._uplink.state.value, "reason": self._uplink.reason, **asdict(self._uplink.counts)},
            **self.parts.power.summary(),
            **self._live_told(),
            "clock_offset_ms": round(offset.offset_ns / 1e6, 3) if offset else None,
            "clock_offset_error_ms": round(offset.error_ns / 1e6, 3) if offset else None,
        }

    async def _waiting(self) -> int:
        return await asyncio.wrap_future(self._worker.call(lambda spool: spool.waiting()))

    def _serve_metrics(self, stack: contextlib.ExitStack) -> Callable[[Record], None]:
        if not self.settings.metrics.listen:
            return lambda _: None
        from edge_node.metrics import Metrics, MetricsServer, StampCollector
        from edge_node.power.collector import PowerCollector

        metrics = Metrics()
        metrics.registry.register(PowerCollector(self.parts.power))
        metrics.registry.register(StampCollector(self._factory.stamps))
        if self._live:
            from edge_node.live.collector import SensorCollector

            metrics.registry.register(SensorCollector(self._live))
        if self._journeys:
            from fusion.tracing.collector import SpanCollector

            metrics.registry.register(SpanCollector("fusion_edge_", self.parts.tracer.exporter.counts))
        server = MetricsServer(self.settings.metrics.listen, metrics, lambda: self._refresh(metrics), self._health)
        stack.callback(server.close)
        _log.info("metrics and health on port %d", server.port)
        return metrics.observe

    def _refresh(self, metrics: Any) -> None:
        def ask(spool: Spool) -> tuple[int, int, int]:
            return spool.waiting(), spool.outbox_bytes, spool.counts().gaps

        waiting, size, gaps = self._worker.call(ask).result(timeout=5)
        metrics.waiting.set(waiting)
        metrics.bytes.set(size)
        metrics.gaps.set(gaps)
        metrics.sent.set(self._uplink.counts.sent)
        metrics.sent_bytes.set(self._uplink.counts.sent_bytes)
        metrics.verdicts.set(self._uplink.counts.verdicts)
        metrics.resident.set(resident_mib()[0] * (1 << 20))
        metrics.show_missed(self._missed.latest())
        metrics.show_uplink(self._uplink.state)
        if offset := self._uplink.offset:
            metrics.offset.set(offset.offset_ns / 1e9)
            metrics.offset_error.set(offset.error_ns / 1e9)

    def _works(self) -> bool:
        """Whether the daemon itself works: it takes readings, or there is a reason not to that no new start mends.

        Such are a source that is over or delivers nothing, and a full disk.
        """
        idle_s = self._idle_s()
        waits = self._source_over.is_set() or self._blind() or self._worker.waits_for_room
        return not self._worker.failure and (waits or idle_s < self.settings.metrics.stalled_s)

    def _blind(self) -> bool:
        """Whether the source is live and its reference sensor, or what triggers it, is down."""
        return self._live is not None and self._live.blind()

    def _live_told(self) -> dict[str, Any]:
        """How live sensors and the clock they are stamped by stand; nothing of another source."""
        return {"sensors": self._live.told(), "clock": self._live.clock_told()} if self._live else {}

    def _idle_s(self) -> float:
        """Since when there were readings to take and none was taken."""
        idle_ns = max(self._runner.progress_ns, self._live.quiet_ns if self._live else 0)
        return (self._clock.monotonic_ns() - idle_ns) / 1e9

    def _health(self) -> tuple[bool, dict[str, Any]]:
        """Healthy while readings are taken and the reference sensor and its trigger are there, or the source is over.

        The other live sensors and the uplink are told, not judged.
        """
        over = self._source_over.is_set()
        full = self._worker.waits_for_room
        healthy = self._works() and not full and (over or not self._blind())
        return healthy, {
            "source_ended": over,
            "seconds_since_progress": round(self._idle_s(), 3),
            "disk_full": full,
            "power": self.parts.power.told(),
            **self._live_told(),
            "stamps": self._factory.stamps.told(),
            "uplink": self._uplink.state.value,
            "uplink_reason": self._uplink.reason,
        }


def _soon(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(action)
