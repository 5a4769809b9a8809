"""How many replicas a queue asks for: within limits, without flapping, up at once and down slowly."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloud_node.lanes.scaling import SETTLE_NS, Scaler
from fusion.review import ScaleLimits

SECOND = 1_000_000_000
readings = st.lists(st.tuples(st.integers(1, 20 * SECOND), st.floats(0, 1e4), st.integers(0, 12)), max_size=60)
limits = st.builds(
    lambda least, more, target_s, idle_s: ScaleLimits(least, least + more, target_s, idle_s),
    st.integers(1, 4),
    st.integers(0, 8),
    st.floats(0.01, 10),
    st.floats(0, 30),
)


@given(limits, readings)
def test_it_stays_within_its_limits_and_settles_between_changes(limit, rows):
    scaler, now_ns, before, changed_ns = Scaler(limit), 0, limit.least, None
    for passed_ns, waiting_s, busy in rows:
        now_ns += passed_ns
        wanted = scaler.decide(now_ns, waiting_s, busy)
        assert limit.least <= wanted <= limit.most
        if wanted != before:
            assert changed_ns is None or now_ns - changed_ns >= SETTLE_NS
            assert wanted > before or wanted == before - 1
            assert wanted < before or waiting_s > 0
            before, changed_ns = wanted, now_ns


@given(limits, readings, st.floats(0, 1e4))
def test_more_work_never_asks_for_fewer(limit, rows, more_s):
    calm, full, now_ns = Scaler(limit), Scaler(limit), 0
    for passed_ns, waiting_s, busy in rows[:1]:
        now_ns += passed_ns
        assert full.decide(now_ns, waiting_s + more_s, busy) >= calm.decide(now_ns, waiting_s, busy)


@given(limits, st.floats(0, 12))
def test_constant_load_settles(limit, offered):
    """Replicas take what is offered as far as they can; the rest waits. No number is left and come back to."""
    scaler, waiting_s, counts = Scaler(limit), 0.0, [limit.least]
    for step in range(1, 600):
        replicas = counts[-1]
        busy = min(replicas, offered + waiting_s)
        waiting_s = (
            max(0.0, waiting_s + 0.5 * (offered - replicas))
            if offered > replicas
            else max(0.0, waiting_s - 0.5 * (replicas - offered))
        )
        counts.append(scaler.decide(step * SECOND // 2, waiting_s, round(busy)))
    changes = [after - before for before, after in pairwise(counts) if after != before]
    assert changes == sorted(changes, key=lambda change: change < 0), "it went up after it had gone down"


def test_up_at_once_down_one_by_one_after_quiet():
    scaler = Scaler(ScaleLimits(1, 4, target_s=1.0, idle_s=10.0))
    assert scaler.decide(0, 0.0, 0) == 1
    assert scaler.decide(SECOND, 10.0, 1) == 4
    seen = [scaler.decide(SECOND + n * SECOND // 2, 0.0, 0) for n in range(1, 200)]
    assert seen[0] == 4
    assert [one for one, before in zip(seen[1:], seen, strict=False) if one != before] == [3, 2, 1]
    first = seen.index(3)
    assert first * 0.5 >= 10
    busy = Scaler(ScaleLimits(1, 4, target_s=1.0, idle_s=0.0))
    busy.decide(0, 10.0, 1)
    assert [busy.decide(n * 10 * SECOND, 0.0, 4) for n in range(1, 10)] == [4] * 9
