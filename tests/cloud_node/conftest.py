"""A real service on a free port with the reviewer that ships for tests, and evidence to send it."""

import asyncio
import contextlib
import importlib.util
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from cloud_node.config import CloudSettings
from cloud_node.server import CloudService
from fusion.config import from_overrides
from fusion.review.fixed import FixedReviewer
from fusion.task import Task
from fusion.types import (
    Box2D,
    CellWindow,
    DeviceOpinion,
    Evidence,
    FusedTokens,
    GatedMaps,
    ItemId,
    MapLayer,
    SampleId,
    SendReason,
)
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Hello, Submission, Welcome

EPOCH = "0123456789abcdef"
PROFILE = "ab" * 32


@dataclass(frozen=True)
class HeldReviewer(FixedReviewer):
    """Finishes no batch before `gate` is set; `begun` counts the batches that began."""

    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def score(self, batch):
        self.begun.release()
        assert self.gate.wait(120)
        return super().score(batch)

    async def begins(self):
        """Wait until a batch has begun."""
        await asyncio.to_thread(self.begun.acquire)


@pytest.fixture(scope="session")
def yard():
    return Task.load("yard")


@pytest.fixture
def held(yard):
    reviewer = HeldReviewer(yard, frozenset({PROFILE}))
    yield reviewer
    reviewer.gate.set()


@pytest.fixture
def make_evidence():
    """Evidence of `cart-1`, told apart by its sequence number."""

    def make(sequence: int = 1, *, device: str = "cart-1", item: int = 1, cells: int = 16, **changes) -> Evidence:
        rng = np.random.default_rng(sequence)
        evidence = Evidence(
            item=ItemId(SampleId(device, EPOCH, sequence), item),
            task="yard",
            time_ns=1_000 * sequence,
            track=sequence,
            profile=PROFILE,
            models={"fusion": "f1"},
            box=Box2D(10, 20, 110, 90),
            image_width=640,
            image_height=384,
            class_scores={"drum": 0.5, "cone": 0.25},
            opinion=DeviceOpinion({"drum": 0.75}, {"ok": 0.5}, 0.25, None),
            reasons=(SendReason.UNCERTAIN,),
            value=0.5,
            ages_ns={"front": 0, "roof": 20_000_000},
            maps=GatedMaps((CellWindow(1, 2, cells, 1),), b"\xff" * (-(-cells // 8)), (MapLayer(rng.bytes(200), 1),)),
            tokens=FusedTokens(rng.integers(-99, 99, (9, 96), dtype=np.int8), 0.0625),
        )
        return replace(evidence, **changes)

    return make


@pytest.fixture
def make_settings(tmp_path):
    """Settings for a free port, a fresh ledger, and never asking for pixels; `--set` overrides on top."""

    def make(*overrides: str) -> CloudSettings:
        first = ["listen=127.0.0.1:0", f"ledger={tmp_path / 'ledger.db'}", "review.pixel_timeout_ms=0"]
        return from_overrides(CloudSettings, [*first, *overrides])

    return make


@pytest.fixture
def serving(make_settings, yard):
    """`async with serving("key=value", reviewer=...) as (service, client)`."""

    @contextlib.asynccontextmanager
    async def serve(*overrides: str, reviewer=None, **parts):
        reviewers = [reviewer or FixedReviewer(yard, frozenset({PROFILE}))]
        async with (
            CloudService(make_settings(*overrides), reviewers=reviewers, **parts).running() as service,
            open_channel(f"127.0.0.1:{service.port}") as channel,
        ):
            yield service, ReviewClient(channel)

    return serve


@pytest.fixture
def hello():
    def make(device: str = "cart-1", **changes) -> Hello:
        return replace(Hello(device, EPOCH, "yard", (PROFILE,)), **changes)

    return make


@pytest.fixture
def connect(hello):
    """Open a stream and shake hands; returns it with the Welcome."""

    async def open_stream(client: ReviewClient, device: str = "cart-1"):
        stream = client.exchange()
        await stream.send(hello(device))
        welcome = await stream.receive()
        assert isinstance(welcome, Welcome)
        return stream, welcome

    return open_stream


@pytest.fixture
def exchange_all():
    """Send all evidence on a stream and gather one answer each, by item."""

    async def run(stream, evidence, **submission):
        wanted = {one.item for one in evidence}
        answers = {}

        async def read():
            while set(answers) != wanted:
                answer = await stream.receive()
                assert answer is not None, "the stream ended"
                answers.setdefault(answer.item, []).append(answer)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            for one in evidence:
                await stream.send(Submission.of(one, **submission))
        return answers

    return run


@pytest.fixture(scope="session")
def thinning():
    """`benchmarks/thinning.py`, whose simulation runs the service's own parts on a virtual clock."""
    path = Path(__file__).parents[2] / "benchmarks" / "thinning.py"
    spec = importlib.util.spec_from_file_location("thinning_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
