"""Every reviewer has answered made-up items before the service is ready."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from cloud_node.config import BatchSettings
from cloud_node.lanes.warmup import warm_up
from cloud_node.server import CloudService
from fusion.clock import ManualClock, SystemClock
from fusion.errors import ModelError
from fusion.review import load_reviewer
from fusion.review.fixed import FixedReviewer
from fusion.review.hub.tiny import save_tiny
from fusion.types import Verdict
from fusion.wire.messages import Submission


@dataclass(frozen=True)
class Counting(FixedReviewer):
    """Remembers how many rows each batch had."""

    sizes: list = field(default_factory=list)

    def score(self, batch):
        self.sizes.append(len(batch))
        return super().score(batch)


@dataclass(frozen=True)
class Broken(FixedReviewer):
    """Loads, and cannot answer."""

    def score(self, batch):
        raise ZeroDivisionError("no such device")


def test_batches_grow_to_the_limit_before_the_service_is_ready(serving, yard, make_evidence):
    reviewer = Counting(yard)

    async def run():
        async with serving("batch.items=4", reviewer=reviewer) as (service, client):
            assert reviewer.sizes == [1, 1, 2, 2, 4, 4]
            assert isinstance(await client.review(Submission.of(make_evidence(1))), Verdict)
            assert service.metrics.registry.get_sample_value("fusion_cloud_batch_items_count") == 1

    asyncio.run(run())


def test_the_cost_of_a_batch_limits_the_trial(yard):
    reviewer = Counting(yard)
    timed = warm_up(reviewer, BatchSettings(items=64, tokens=900), SystemClock())
    assert [batch.items for batch in timed] == sorted({batch.items for batch in timed})
    assert all(batch.tokens <= 900 for batch in timed)
    assert timed[-1].items < 64


def test_a_slow_reviewer_is_not_tried_on_more(yard):
    slow = Counting(yard, seconds_per_batch=1.1)
    assert len(warm_up(slow, BatchSettings(), SystemClock())) == 1
    assert slow.sizes == [1, 1]


def test_it_can_be_switched_off(serving, yard):
    reviewer = Counting(yard)

    async def run():
        async with serving("warm_up=false", reviewer=reviewer):
            assert reviewer.sizes == []

    asyncio.run(run())


def test_a_reviewer_that_cannot_answer_is_named_and_nothing_is_served(make_settings, yard):
    async def run():
        async with CloudService(make_settings(), reviewers=[Broken(yard)]).running():
            raise AssertionError("it served")

    with pytest.raises(ModelError, match=r"fixed:yard.*no such device"):
        asyncio.run(run())


@pytest.mark.parametrize("name", ["mini:yard", "mini:pcb", "fixed:pcb"])
def test_shipped_reviewers_answer_made_up_items(name):
    timed = warm_up(load_reviewer(name), BatchSettings(items=8), SystemClock())
    sizes = [batch.items for batch in timed]
    assert sizes
    assert sizes == [1, 2, 4, 8][: len(sizes)], "fewer on a machine that takes a second"
    assert all(batch.duration_ns > 0 for batch in timed)


def test_a_pretrained_model_is_shown_pictures(tmp_path):
    reviewer = load_reviewer(f"hf:{save_tiny('qwen2_5_vl', tmp_path / 'tiny')}?task=yard&side=56")
    timed = warm_up(reviewer, BatchSettings(items=2), ManualClock(5))
    assert [batch.items for batch in timed] == [1, 2]
    assert timed[0].tokens > 1, "it had a picture to read"


LOADING = """
import sys, time
import cloud_node.server

def load(name):
    print("loads", flush=True)
    time.sleep(60)

cloud_node.server.load_reviewer = load
from cloud_node.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_while_a_model_loads(tmp_path, number):
    sets = ["listen=127.0.0.1:0", 'reviewers=["fixed:yard"]', f"ledger={tmp_path / 'ledger.db'}"]
    command = [sys.executable, "-c", LOADING, "serve", *(part for one in sets for part in ("--set", one))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "loads\n"
            process.send_signal(number)
            said, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, said, errors) == (0, "", "")
