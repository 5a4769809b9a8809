"""What a simulated fleet must keep: no item is lost or told twice, a seed decides everything, a lost region drains."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FINAL = {"reviewed", "expired", "shed", "pending"}
QUEUE = 128


@pytest.fixture(scope="session")
def run(crowd):
    """A small node's outcome: a batch of 32 takes half a second, 60 reviews/s or so, and 128 may wait."""
    settings = crowd.settings
    batch, queue = settings.BatchSettings(items=32), settings.QueueSettings(items=QUEUE)
    node = replace(settings.NODES["cpu"], review=settings.Line(20.0, 0.52), batch=batch, queue=queue)

    @cache
    def simulated(load, *, seconds=30, seed=0, lost_s=None, event_s=None, **fleet):
        trouble = crowd.settings.Trouble(event_s=event_s, lost_s=lost_s, lost_for_s=8.0)
        return crowd.simulation.Simulation(node, crowd.settings.Fleet(**fleet), trouble, load, seconds, seed).run()

    return simulated


@pytest.mark.parametrize(
    "case",
    [
        {"load": 0.5},
        {"load": 2.0},
        {"load": 2.0, "deadline_s": 5.0},
        {"load": 2.0, "spool_items": 2},
        {"load": 0.9, "lost_s": 15.0, "event_s": 10.0, "spool_items": 3, "drop": "oldest"},
    ],
)
def test_every_item_is_in_one_state(run, case):
    outcome = run(**case)
    assert set(outcome.states) <= FINAL
    assert sum(outcome.states.values()) == outcome.items > 0


def test_no_review_is_done_twice(run):
    """A region that lost its answers is given the stored ones."""
    outcome = run(0.5, lost_s=8.0, backoff_s=2.0)
    told = outcome.states["reviewed"]
    assert told <= round(outcome.goodput * 30) <= told + outcome.states["pending"]


def test_a_seed_decides_everything(run, crowd):
    assert run(0.9, seed=3) == run.__wrapped__(0.9, seed=3)
    assert run(0.9, seed=3) != run(0.9, seed=4)


def test_at_half_load_nothing_is_refused_or_shed(run):
    outcome = run(0.5)
    assert set(outcome.states) <= {"reviewed", "pending"}
    assert outcome.refusals == outcome.late == 0
    assert outcome.p99_s < 1.5  # one batch at work, one of its own
    assert outcome.states.get("pending", 0) < 2.5 * outcome.offered


@pytest.mark.parametrize("deadline_s", [0.0, 30.0])
def test_at_twice_the_load_capacity_is_used(run, deadline_s):
    outcome = run(2.0, deadline_s=deadline_s)
    assert outcome.refusals > 0
    assert outcome.goodput >= 0.9 * outcome.capacity
    assert outcome.goodput <= 1.05 * outcome.capacity


def test_the_queue_is_bounded(run):
    assert QUEUE * 0.9 < max(m.queue for m in run(2.0).moments) <= QUEUE


def test_a_full_spool_sheds_the_least_valuable(run):
    by_value, oldest = (run(2.0, spool_items=2, drop=drop) for drop in ("value", "oldest"))
    assert by_value.states["shed"] > 0
    assert oldest.states["shed"] > 0


def test_a_lost_region_drains(run):
    outcome = run(0.5, lost_s=8.0, backoff_s=2.0)
    assert 0 < outcome.recovery_s < 15
    before, during, after = (next(m.spools for m in outcome.moments if m.s == s) for s in (7, 15, 30))
    assert during > 3 * before
    assert after < during / 3


def test_a_lost_region_outlasts_an_overloaded_service(run):
    assert math.isinf(run(2.0, lost_s=8.0, deadline_s=0.0).recovery_s)


def test_an_event_queues(run):
    calm, event = run(0.5), run(0.5, event_s=8.0)
    assert max(m.queue for m in event.moments) > max(m.queue for m in calm.moments)
    assert event.items > calm.items


def test_shards_are_alike(run):
    """One shard stands for all: what is offered differs as Poisson's counts do, what becomes of it hardly."""
    outcomes = [run(0.5, seconds=60, seed=seed) for seed in range(4)]
    offered, medians = [o.offered for o in outcomes], [o.p50_s for o in outcomes]
    assert np.ptp(offered) / np.mean(offered) < 0.1
    assert np.ptp([o.goodput / o.offered for o in outcomes]) < 0.02
    assert np.ptp(medians) / np.mean(medians) < 0.15


def test_rates_have_a_heavy_tail(crowd):
    demand = crowd.demand.draw(crowd.settings.Fleet(), crowd.settings.Trouble(), 5000, 3600, seed=0)
    counts = np.sort(np.bincount(demand.device, minlength=5000))[::-1]
    assert counts.sum() == pytest.approx(5000 * 60, rel=0.01)
    assert counts[:50].sum() > 0.1 * counts.sum()
    assert (np.diff(demand.time_ns) >= 0).all()


def test_a_day_swings(crowd):
    fleet = crowd.settings.Fleet(day_swing=0.8, day_s=100.0)
    times = crowd.demand.draw(fleet, crowd.settings.Trouble(), 5000, 100, seed=0).time_ns / 1e9
    assert (times < 50).sum() > 2 * (times >= 50).sum()


def test_arithmetic(crowd):
    node, fleet = crowd.settings.NODES["gpu"], crowd.settings.Fleet()
    small, large = (crowd.arithmetic.need(n, fleet, node, 3) for n in (100, 1_000_000))
    assert small.processes == small.gpus == 1
    assert large.reviews_s == pytest.approx(1e6 * 60 / 3600 * crowd.arithmetic.BUSY_HOUR)
    assert large.processes * crowd.arithmetic.HEADROOM * node.capacity(60.0) >= large.reviews_s
    assert large.gpus == math.ceil(large.processes / 3)


def test_the_command(tmp_path: Path, crowd: SimpleNamespace) -> None:
    measured = tmp_path / "stream.json"
    measured.write_text('{"service_cpu_ms_per_review": 1.5}', encoding="utf-8")
    out = tmp_path / "out" / "fleet.json"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "fleet.py"),
        "--node",
        "cpu",
        "--seconds",
        "4",
        "--loads",
        "50",
    ]
    command += ["--measured", str(measured), "--json", str(out), "--picture", str(tmp_path / "fleet.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "event loop 427" in done.stdout  # 1 / (1.5 ms + six pings of 0.14 ms)
    assert json.loads(out.read_text(encoding="utf-8"))[0]["load"] == 0.5
    assert (tmp_path / "fleet.png").stat().st_size > 1000
