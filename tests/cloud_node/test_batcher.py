"""The batcher's promises: budget, deadlines, fairness, order, nothing lost, nobody starved, never idle."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_node.lanes.batcher import PATIENCE_NS, Batcher, Entry
from cloud_node.lanes.cost import CostModel, Slip

MS = 1_000_000
BUDGET = 100


def predict(tokens: int) -> int:
    return 5 * MS + tokens * MS // 10


def batcher(**changes) -> Batcher:
    return Batcher(**({"max_tokens": BUDGET, "max_items": 8, "max_delay_ns": 4 * MS, "predict_ns": predict} | changes))


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(1, BUDGET),
        st.integers(0, 30),  # ms since the one before
        st.none() | st.integers(1, 300),  # deadline, ms from arrival
        st.integers(0, 2),
    ),
    max_size=60,
)


def timeline(arrivals):
    now = 0
    for key, (device, tokens, gap, deadline, priority) in enumerate(arrivals):
        now += gap * MS
        yield Entry(key, device, tokens, now, None if deadline is None else now + deadline * MS, priority)


def run(entries, made: Batcher):
    """Feed entries at their times to a reviewer that takes exactly as long as predicted; yields (now, decision)."""
    entries, now = list(entries), 0
    while entries or len(made):
        if not len(made):
            now = max(now, entries[0].arrival_ns)
        while entries and entries[0].arrival_ns <= now:
            made.add(entries.pop(0))
        decision = made.decide(now)
        yield now, decision
        if decision.batch:
            now += predict(sum(entry.tokens for entry in decision.batch))
        elif decision.wake_ns is not None:
            now = min([decision.wake_ns, *(entry.arrival_ns for entry in entries[:1])])


@given(ARRIVALS)
@settings(max_examples=120, deadline=None)
def test_budget_deadlines_and_conservation(arrivals):
    entries = list(timeline(arrivals))
    ended = Counter()
    for now, decision in run(entries, batcher()):
        tokens = sum(entry.tokens for entry in decision.batch)
        assert tokens <= BUDGET
        assert len(decision.batch) <= 8
        for entry in decision.batch:
            assert entry.deadline_ns is None or now + predict(tokens) <= entry.deadline_ns
        filled = tokens + BUDGET // 2 > BUDGET or len(decision.batch) == 8
        for entry in decision.expired:
            assert filled or now + predict(entry.tokens) > entry.deadline_ns
        ended.update(entry.item for entry in (*decision.batch, *decision.expired))
    assert ended == Counter(range(len(entries)))


@given(ARRIVALS)
@settings(max_examples=120, deadline=None)
def test_it_never_idles_when_a_batch_is_due(arrivals):
    made = batcher()
    for now, decision in run(timeline(arrivals), made):
        if not decision.batch and decision.wake_ns is not None:
            assert decision.wake_ns > now
            assert made.tokens < BUDGET


@given(ARRIVALS)
@settings(max_examples=120, deadline=None)
def test_nothing_waits_beyond_the_delay_while_the_reviewer_is_free(arrivals):
    free_at = 0
    for now, decision in run(timeline(arrivals), batcher()):
        for entry in decision.batch[:1]:
            if len(decision.batch) == 1 and free_at <= entry.arrival_ns:
                assert now <= entry.arrival_ns + 4 * MS
        if decision.batch:
            free_at = now + predict(sum(entry.tokens for entry in decision.batch))


@given(ARRIVALS)
@settings(max_examples=120, deadline=None)
def test_equals_of_one_device_keep_their_order(arrivals):
    alike = [(device, tokens, gap, None, 0) for device, tokens, gap, _, _ in arrivals]
    seen = {}
    for _, decision in run(timeline(alike), batcher()):
        for entry in decision.batch:
            assert seen.get(entry.device, -1) < entry.item
            seen[entry.device] = entry.item


@given(st.lists(st.integers(1, BUDGET), min_size=1, max_size=30), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_equal_deadlines_of_one_device_keep_their_order(sizes, others):
    made = batcher()
    for key, tokens in enumerate(sizes):
        made.add(Entry(key, "a", tokens, key, deadline_ns=60_000 * MS))
        for other in range(others):
            made.add(Entry((key, other), f"b{other}", tokens, key))
    order = []
    while len(made):
        order += [entry.item for entry in made.decide(100 * MS).batch if entry.device == "a"]
    assert order == sorted(order)


def test_a_flood_of_urgent_items_does_not_starve_a_patient_device():
    made, now, key = batcher(), 0, 0
    made.add(Entry("patient", "quiet", BUDGET, now))
    for _ in range(600):
        for device in ("x", "y", "z"):
            key += 1
            made.add(Entry(key, device, 60, now, now + 40 * MS))
        decision = made.decide(now)
        if "patient" in [entry.item for entry in decision.batch]:
            assert now <= PATIENCE_NS + 100 * MS
            return
        now += predict(sum(entry.tokens for entry in decision.batch)) if decision.batch else MS
    raise AssertionError("the patient device was never served")


@given(
    st.lists(st.integers(1, BUDGET // 2), min_size=20, max_size=40),
    st.lists(st.integers(1, BUDGET // 2), min_size=20, max_size=40),
)
@settings(max_examples=100, deadline=None)
def test_two_backlogged_devices_share_by_tokens(first, second):
    made = batcher(max_items=1000)
    for key, tokens in enumerate(first):
        made.add(Entry(("a", key), "a", tokens, 0))
    for key, tokens in enumerate(second):
        made.add(Entry(("b", key), "b", tokens, 0))
    left, got = {"a": len(first), "b": len(second)}, Counter()
    while all(left.values()):
        for entry in made.decide(4 * MS).batch:
            left[entry.device] -= 1
            got[entry.device] += entry.tokens
        if all(left.values()):
            assert abs(got["a"] - got["b"]) <= BUDGET // 8 + BUDGET  # a quantum and the largest entry of each


def test_a_devices_flood_leaves_the_other_its_half():
    made = batcher()
    for key in range(50):
        made.add(Entry(key, "loud", 10, 0))
    made.add(Entry("late", "quiet", 10, 1))
    assert "late" in [entry.item for entry in made.decide(4 * MS).batch]


def test_the_urgent_one_goes_first():
    made = batcher(max_items=1)
    made.add(Entry("calm", "a", 10, 0))
    made.add(Entry("soon", "b", 10, 1, deadline_ns=30 * MS))
    assert [entry.item for entry in made.decide(5 * MS).batch] == ["soon"]


def test_a_higher_priority_goes_first_within_a_device():
    made = batcher(max_items=1)
    made.add(Entry("ordinary", "a", 10, 0))
    made.add(Entry("high", "a", 10, 1, priority=1))
    assert [entry.item for entry in made.decide(5 * MS).batch] == ["high"]


def test_a_large_entry_is_not_passed_over_for_ever():
    made = batcher()
    made.add(Entry("large", "a", BUDGET, 0))
    for key in range(30):
        made.add(Entry(key, "b", 30, 0))
    batches = [made.decide(4 * MS).batch for _ in range(4)]
    assert "large" in [entry.item for batch in batches for entry in batch]


def test_it_waits_for_company_but_not_past_a_deadline():
    made = batcher(max_delay_ns=50 * MS)
    made.add(Entry(1, "a", 10, 0))
    assert made.decide(0).wake_ns == 50 * MS
    made.add(Entry(2, "a", 10, 0, deadline_ns=20 * MS))
    decision = made.decide(0)
    assert not decision.batch
    assert decision.wake_ns == 20 * MS - predict(20)
    assert len(made.decide(decision.wake_ns).batch) == 2


def test_a_full_batch_leaves_at_once():
    made = batcher()
    for key in range(8):
        made.add(Entry(key, "a", 1, 0))
    assert len(made.decide(0).batch) == 8


def at_twice_the_load(deadline_ms, seconds=20):
    """Items of ten devices at twice what full batches do a second, all with a deadline: rows done, their batches."""
    full_ns = predict(80)
    count = seconds * 1000 * MS * 8 * 2 // full_ns
    entries = [
        Entry(n, f"d{n % 10}", 10, at := n * full_ns // 16, at + deadline_ms * MS)  # every 16th of a batch's time
        for n in range(count)
    ]
    batches = [decision.batch for _, decision in run(entries, batcher()) if decision.batch]
    return sum(map(len, batches)), count // 2, batches


def test_overload_does_not_make_batches_small():
    """Urgent rows would, each, if a batch were cut to what they can still wait for."""
    done, capacity, batches = at_twice_the_load(deadline_ms=100)
    assert done > 0.95 * capacity
    assert sum(map(len, batches)) / len(batches) > 7.5
    shares = Counter(entry.device for batch in batches for entry in batch)
    assert min(shares.values()) > 0.8 * done / 10


def waits(batches_at, skip_ms):
    """How long rows waited for their batch, in ms, in order, without those of the first `skip_ms`."""
    return sorted((at - e.arrival_ns) / MS for at, batch in batches_at for e in batch if at >= skip_ms * MS)


@pytest.mark.parametrize("load", [1.2, 2.0])
def test_under_load_that_stays_nobody_waits_in_vain(load):
    """As many are done as before, in a third of the time that their deadline allows."""
    full_ns = predict(80)
    gap_ns = round(full_ns / 8 / load)
    entries = [Entry(n, f"d{n % 10}", 10, n * gap_ns, n * gap_ns + 300 * MS) for n in range(20_000 * MS // gap_ns)]
    batches = [(now, decision.batch) for now, decision in run(entries, batcher()) if decision.batch]
    told = waits(batches, 4000)  # by then a queue of all that deadlines allow has grown, and was seen to stay
    assert len(told) > 0.97 * 16_000 * MS / full_ns * 8
    assert told[-1] < 3 * full_ns / MS
    shares = Counter(entry.device for _, batch in batches for entry in batch)
    assert min(shares.values()) > 0.8 * max(shares.values())


def test_a_burst_is_done_as_far_as_deadlines_allow():
    """Would fail if it were cut short like load that stays: all that can be made is made."""
    full_ns = predict(80)
    entries = [Entry(n, f"d{n % 10}", 10, 0, 10 * full_ns) for n in range(200)]
    done = sum(len(decision.batch) for _, decision in run(entries, batcher()))
    assert done == 80


def test_what_has_no_deadline_is_never_given_up_and_takes_nobodys_place():
    full_ns = predict(80)
    patient = [Entry(("p", n), "slow", 10, 0) for n in range(40)]
    urgent = [Entry(n, f"d{n % 5}", 10, n * full_ns // 16, n * full_ns // 16 + 100 * MS) for n in range(2000)]
    entries = sorted([*patient, *urgent], key=lambda e: e.arrival_ns)
    seen = [decision for _, decision in run(entries, batcher())]
    assert not [e for decision in seen for e in decision.expired if e.deadline_ns is None]
    assert sum(e.device == "slow" for decision in seen for e in decision.batch) == 40


def test_of_too_much_the_higher_priority_is_kept():
    full_ns = predict(80)
    entries = [
        Entry(n, f"d{n % 7}", 10, at := n * full_ns // 16, at + 100 * MS, priority=int(n % 4 == 0)) for n in range(4000)
    ]
    given_up = [e for _, decision in run(entries, batcher()) for e in decision.expired]
    assert sum(e.priority for e in given_up) < 0.02 * len(given_up)


def test_replicas_keep_a_batch_each():
    """Would fail if two batches were kept for all of them: most would find nothing to do."""
    made = batcher(replicas=lambda: 4)
    full_ns = predict(80)
    entries = [Entry(n, f"d{n % 10}", 10, at := n * full_ns // 64, at + 100 * MS) for n in range(6000)]
    now, sizes = 0, []
    while entries:
        while entries and entries[0].arrival_ns <= now:
            made.add(entries.pop(0))
        sizes += [len(made.decide(now).batch) for _ in range(4)]
        now += full_ns
    assert sum(sizes) / len(sizes) > 7.5


def test_a_tight_one_is_given_up_only_while_others_fill_a_batch():
    made = batcher()
    tight = Entry("tight", "a", 10, 0, deadline_ns=predict(10))
    for others, given_up in ((7, False), (8, True)):
        made.add(tight)
        for key in range(others):
            made.add(Entry(key, "b", 10, 0, deadline_ns=500 * MS))
        decision = made.decide(0)
        assert (tight in decision.expired) is given_up
        assert (tight in decision.batch) is not given_up
        while len(made):
            made.decide(500 * MS)


def test_a_tight_one_of_higher_priority_is_not_given_up_for_others():
    made = batcher()
    tight = Entry("tight", "a", 10, 0, deadline_ns=predict(10), priority=1)
    made.add(tight)
    for key in range(20):
        made.add(Entry(key, "b", 10, 0, deadline_ns=500 * MS))
    assert tight in made.decide(0).batch


def test_a_removed_entry_is_gone():
    made = batcher()
    made.add(Entry(1, "a", 10, 0))
    made.add(Entry(2, "a", 10, 0))
    assert made.remove(1)
    assert not made.remove(1)
    assert [entry.item for entry in made.decide(4 * MS).batch] == [2]
    assert (len(made), made.tokens, made.decide(9 * MS).wake_ns) == (0, 0, None)


def test_the_cost_model_finds_the_line_and_is_never_negative():
    model = CostModel()
    assert model.predict_ns(1000) == 0
    for tokens in (10, 50, 90, 200):
        model.observe(tokens, 3 * MS + tokens * MS // 5)
    assert abs(model.predict_ns(400) - 83 * MS) < MS
    odd = CostModel()
    odd.observe(10, 9 * MS)
    odd.observe(100, 1 * MS)
    assert odd.predict_ns(1) >= 0
    steep = CostModel()
    steep.observe(100, 1 * MS)
    steep.observe(200, 9 * MS)
    assert steep.predict_ns(1) >= 0


@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 10**10)), min_size=1, max_size=100))
@settings(max_examples=100, deadline=None)
def test_predictions_are_sane_whatever_was_seen(seen):
    model = CostModel()
    for tokens, duration in seen:
        model.observe(tokens, duration)
    assert 0 <= model.predict_ns(1) <= model.predict_ns(10_000)


@given(st.lists(st.integers(-(10**9), 10**11), max_size=40), st.integers(-(10**9), 10**10))
def test_a_reserve_is_never_more_than_a_quarter_of_what_is_left(slips, left_ns):
    slip = Slip()
    for one in slips:
        slip.observe(one)
    assert 0 <= slip.reserve_ns(left_ns) <= max(0, left_ns) // 4


def test_a_reserve_covers_what_is_usual_and_forgets_what_was():
    slip = Slip()
    for _ in range(50):
        slip.observe(10_000_000)
    assert slip.reserve_ns(10**9) == pytest.approx(10_000_000, rel=0.05)
    slip.observe(2_000_000_000)  # one slow commit
    assert slip.reserve_ns(10**9) == 250_000_000
    for _ in range(50):
        slip.observe(10_000_000)
    assert slip.reserve_ns(10**9) < 15_000_000
