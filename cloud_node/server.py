"""The service: one pipeline behind grpc.aio, with health, reflection and metrics, from start to drained end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.config import CloudSettings
from cloud_node.console.backing import Backing, on_loop
from cloud_node.console.profiles import profiles_of
from cloud_node.console.serving import console, take_port
from cloud_node.fleet import DeviceRow
from cloud_node.job import Answer, Listener
from cloud_node.journal import Journal
from cloud_node.ledger import Ledger, open_ledger
from cloud_node.metrics import Metrics
from cloud_node.overview import Overview
from cloud_node.pipeline import Pipeline
from cloud_node.probes import probes
from cloud_node.roster import Roster
from cloud_node.session import Sessions, check_identity
from cloud_node.threads import DaemonThreads
from fusion.clock import Clock, SystemClock
from fusion.review import Reviewer, load_reviewer, replicated, waits_elsewhere
from fusion.tracing import Tracer, open_tracer
from fusion.tracing.collector import SpanCollector
from fusion.types import Verdict
from fusion.wire.channel import bind, server_options
from fusion.wire.messages import DeviceMessage, Refusal, ServiceMessage, Submission
from fusion.wire.service import SERVICE_NAME, Peer, add_review_service

HEALTH_PERIOD_S = 0.5
STOP_GRACE_S = 2.0

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class CloudService:
    """Composed of its parts; `serve` opens the ports, `drain` ends everything in order.

    `reviewers` and `ledger` replace what the settings name, for tests and for whoever brings their own.
    """

    def __init__(
        self,
        settings: CloudSettings,
        *,
        reviewers: Sequence[Reviewer] | None = None,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.port = 0
        self.metrics_port = 0
        self.console_port = 0
        self._started = False
        self._reviewers = reviewers
        self._ledger = ledger
        self._clock = clock or SystemClock()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CloudService]:
        """Start, yield while serving, stop. Raises `FusionError` for a port, model or ledger that cannot be had.

        The ports are taken first, so that a port in use is told before a model is loaded.
        """
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:
            server = grpc.aio.server(options=server_options())
            stack.push_async_callback(server.stop, None)
            self.port = bind(server, settings.listen, settings.tls)
            tracer = self._open_tracer(stack)
            self.metrics_port = stack.enter_context(probes(settings.metrics, self))
            listener = stack.enter_context(take_port(settings.console))
            self.console_port = listener.getsockname()[1] if listener else 0
            executor = _thread(stack)
            reviewers = self._reviewers or await self._load(executor)
            executors = {r.name: _executor_of(r, executor, stack) for r in reviewers}
            if self._reviewers is None:
                stack.callback(_close, reviewers, executors)
            await asyncio.get_running_loop().run_in_executor(executor, _pin_threads, settings.threads)
            ledger = self._ledger or open_ledger(settings.ledger, keep_evidence=settings.keep_evidence)
            journal = Journal(ledger, self.metrics)
            stack.callback(journal.close)
            self._compose(reviewers, journal, executors, server, tracer)
            if settings.warm_up:
                await self._pipeline.warm_up()
            stack.push_async_callback(self._start_background())
            await self._show_health(healthy=True)
            await server.start()
            self._started = True
            if listener is not None:
                await stack.enter_async_context(console(listener, settings.console, self._backing(stack, ledger)))
            yield self
            await server.stop(STOP_GRACE_S)
            await journal.flush()

    async def failure(self) -> None:
        """Wait for a part of the service to fail, and raise what it raised; it is a defect in the program."""
        await self._failed

    async def drain(self) -> None:
        """Take nothing new, answer what is open (for `drain_seconds` at most), end every stream."""
        self._pipeline.draining = True
        await self._show_health(healthy=False)
        self._sessions.announce_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_seconds):
                await self._pipeline.idle.wait()
        self._sessions.end_all()

    def why_not_live(self) -> str:
        """What failed for good; empty while the event loop and the pipeline run."""
        return "a part of the service failed" if self._failed.done() else ""

    def why_not_ready(self) -> str:
        """Why nothing should be sent here; empty while the service takes items and they are reviewed."""
        if self._failed.done() or not self._started:
            return self.why_not_live() or "starting"
        if self._pipeline.draining:
            return "draining"
        return "" if self._pipeline.healthy else "unhealthy: a reviewer or the ledger fails or hangs"

    def devices(self) -> tuple[DeviceRow, ...]:
        """How every connected device is, by name; to be called on the service's event loop."""
        return self._sessions.fleet.here() if self._started else ()

    def render(self) -> bytes:
        """The metrics, with the books brought up to date."""
        if self._started:
            self._pipeline.show_books()
            self._sessions.show_devices()
        return self.metrics.render()

    async def exchange(
        self,
        messages: AsyncIterator[DeviceMessage],
        send: Callable[[ServiceMessage], Awaitable[None]],
        peer: Peer,
    ) -> None:
        """One device's stream; see `fusion.wire.service.ReviewHandler`."""
        await self._sessions.serve(messages, send, peer)

    async def review_item(self, submission: Submission, peer: Peer) -> Verdict:
        """One item; the caller's gRPC deadline counts as the item's."""
        check_identity(peer, submission.item.sample.device)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        listener = Listener(lambda answer: None if answered.done() else answered.set_result(answer))
        self._pipeline.submit(submission, listener, seconds_left=peer.seconds_left)
        try:
            answer = await answered
        finally:
            self._pipeline.withdraw(submission.item, listener)
        if isinstance(answer, Refusal):
            raise answer.error
        return answer

    def _compose(
        self,
        reviewers: Sequence[Reviewer],
        journal: Journal,
        executors: Mapping[str, Executor],
        server: grpc.aio.Server,
        tracer: Tracer,
    ) -> None:
        settings, clock, metrics = self.settings, self._clock, self.metrics
        self._roster = roster = Roster(reviewers)
        self._journal = journal
        self._pipeline = Pipeline(roster, journal, settings, executors, clock, metrics, tracer)
        self._sessions = Sessions(roster, self._pipeline, journal, settings, clock, metrics)
        fleet = self._sessions.fleet
        self._overview = Overview(roster, self._pipeline, journal, fleet, metrics, clock, self.why_not_ready)
        self._health = health.aio.HealthServicer()
        add_review_service(server, self)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    def _open_tracer(self, stack: contextlib.AsyncExitStack) -> Tracer:
        tracer = open_tracer(self.settings.trace, "cloud-node", f"{socket.gethostname()}:{self.port}")
        if tracer.on:
            self.metrics.registry.register(SpanCollector("fusion_cloud_", tracer.exporter.counts))
            stack.callback(tracer.exporter.close)
        return tracer

    def _backing(self, stack: contextlib.AsyncExitStack, ledger: Ledger) -> Backing:
        """What the console is given: a reader, the journal and the overview, both on this loop."""
        reader = ledger.reader()
        stack.callback(reader.close)
        overview = asyncio.create_task(self._overview.run())
        stack.callback(overview.cancel)
        loop, reviewers = asyncio.get_running_loop(), self._roster.reviewers
        return Backing(
            reader=reader,
            correct=on_loop(loop, self._journal.record_correction),
            watched=on_loop(loop, self._overview.told),
            tasks={reviewer.task.name: reviewer.task for reviewer in reviewers},
            profiles=profiles_of(reviewers),
        )

    def _start_background(self) -> Callable[[], Awaitable[None]]:
        """Start the pipeline and the health watch; returns what stops them."""
        tasks = [asyncio.create_task(part) for part in (self._pipeline.run(), self._watch_health())]
        for task in tasks:
            task.add_done_callback(self._part_ended)

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        return stop

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self._failed.done():
            self._failed.set_exception(task.exception() or RuntimeError(f"{task.get_name()} ended by itself"))

    async def _load(self, executor: Executor) -> list[Reviewer]:
        loop, loaded = asyncio.get_running_loop(), list[Reviewer]()
        try:
            for name in self.settings.reviewers:
                loaded.append(await loop.run_in_executor(executor, load_reviewer, name))
        except BaseException:
            _close(loaded, {one.name: executor for one in loaded})
            raise
        return loaded

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_PERIOD_S)
            await self._show_health(healthy=self._pipeline.healthy and not self._pipeline.draining)

    async def _show_health(self, *, healthy: bool) -> None:
        self.metrics.healthy.set(int(healthy))
        for name in ("", SERVICE_NAME):
            await self._health.set(name, _SERVING if healthy else _NOT_SERVING)


def _executor_of(reviewer: Reviewer, here: Executor, stack: contextlib.AsyncExitStack) -> Executor:
    """Threads for reviews: one for all that compute here, others for each that waits, as many as its replicas."""
    if (several := replicated(reviewer)) is not None:
        return _thread(stack, several.limits.most + 1)
    return _thread(stack) if waits_elsewhere(reviewer) else here


def _thread(stack: contextlib.AsyncExitStack, threads: int = 1) -> Executor:
    """Threads whose last reviews are waited for a while in the end; one that hangs keeps no process alive."""
    executor = DaemonThreads(threads, "review")
    stack.push_async_callback(asyncio.to_thread, executor.end, STOP_GRACE_S)
    return executor


def _close(reviewers: Sequence[Reviewer], executors: Mapping[str, Executor]) -> None:
    """Let go of what reviewers hold, each in its own thread; one that hangs is left."""
    for reviewer in reviewers:
        if (close := getattr(reviewer, "close", None)) is not None:
            with contextlib.suppress(TimeoutError):
                executors[reviewer.name].submit(close).result(STOP_GRACE_S)


def _pin_threads(threads: int) -> None:
    """Bound torch's threads in the thread that reviews, if a reviewer brought torch."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
