"""The byte budget: never more than the link was promised, and coarser evidence before fewer items."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_node.budget import ByteBudget
from edge_node.config import ScreeningSettings
from edge_node.screener import Screener
from fusion.codec import RATES, rate_named
from fusion.errors import ConfigError

SECOND = 1_000_000_000
WEIGHTS = {"full": 2200, "lean": 1430, "coarse": 1130, "least": 1020}


@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(0, 9000), st.booleans()), max_size=60))
@settings(max_examples=100, deadline=None)
def test_it_never_spends_more_than_it_got(steps):
    budget, now, spent, biggest = ByteBudget(5000, 20_000), 0, 0, 0
    for wait, weight, encoded in steps:
        now += wait
        budget.refill(now)
        if grant := budget.admit():
            if encoded:
                budget.charge(grant, weight)
                spent, biggest = spent + weight, max(biggest, weight)
            else:
                budget.release(grant)
    assert spent <= 20_000 + 5000 * now / SECOND + max(biggest, 4096) + 1


@given(st.floats(-5000, 20_000), st.floats(-5000, 20_000))
def test_a_fuller_bucket_never_sends_coarser(one, other):
    granted = []
    for level in sorted((one, other)):
        budget = ByteBudget(1000, 20_000)
        budget.level = level
        grant = budget.admit()
        granted.append(RATES.index(grant.rate) if grant else len(RATES))
    assert granted[0] >= granted[1]


@given(st.lists(st.lists(st.integers(500, 3000), min_size=1, max_size=6), max_size=20))
@settings(max_examples=60, deadline=None)
def test_what_was_taken_in_advance_is_given_back_to_the_byte(samples):
    """Several items are admitted before the first of them is encoded."""
    budget, spent = ByteBudget(1e-9, 1_000_000), 0
    for sizes in samples:
        grants = [budget.admit() for _ in sizes]
        for grant, size in zip(grants, sizes, strict=True):
            assert grant is not None
            budget.charge(grant, size)
            spent += size
    assert budget.level == pytest.approx(1_000_000 - spent)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_a_burst_of_items_admitted_at_once_is_weighed_by_what_was_measured(scale):
    """Would fail if rates that were never sent were expected to weigh what a first guess says."""
    budget = ByteBudget(1e-9, 65_536)
    for _ in range(300):
        budget.level = 65_536.0
        budget.charge(budget.admit(), round(WEIGHTS["full"] * scale))
    budget.level = 65_536.0
    grants = [grant for _ in range(400) if (grant := budget.admit())]
    for grant in grants:
        budget.charge(grant, round(WEIGHTS[grant.rate.name] * scale))
    assert {grant.rate.name for grant in grants} == set(WEIGHTS)
    assert -0.1 * 65_536 < budget.level < WEIGHTS["full"] * scale + 0.1 * 65_536


def test_a_thin_link_carries_coarser_items_instead_of_fewer():
    def carried(rates) -> tuple[int, list[str]]:
        budget, names = ByteBudget(1000, 16_384, rates), []
        for tick in range(600):
            budget.refill(tick * SECOND // 10)
            if tick % 6 == 0 and (grant := budget.admit()):
                names.append(grant.rate.name)
                budget.charge(grant, WEIGHTS[grant.rate.name])
        return len(names), names

    few, _ = carried(RATES[:1])
    many, names = carried(RATES)
    assert few <= 38  # 60 s of 1,000 bytes and a burst of 16 KB, in items of 2,200
    assert many >= 50
    assert names[0] == "full"
    assert set(names[-20:]) <= {"coarse", "least"}


def test_no_limit_is_always_the_finest_that_the_settings_allow():
    for finest in RATES:
        screener = Screener(ScreeningSettings(finest_rate=finest.name))
        assert {screener.budget.admit().rate for _ in range(50)} == {finest}
        limited = Screener(ScreeningSettings(finest_rate=finest.name, budget_bytes_per_s=1, budget_burst_bytes=20_000))
        rates = [grant.rate for _ in range(30) if (grant := limited.budget.admit())]
        assert rates[0] == finest
        assert [RATES.index(rate) for rate in rates] == sorted(RATES.index(rate) for rate in rates)


def test_no_item_goes_out_coarser_than_the_settings_allow():
    budget = Screener(ScreeningSettings(coarsest_rate="lean", budget_bytes_per_s=1)).budget
    granted = [grant.rate.name for _ in range(200) if (grant := budget.admit())]
    assert set(granted) == {"full", "lean"}
    assert budget.admit() is None  # shed instead
    with pytest.raises(ValidationError, match="coarsest_rate: 'full' is finer than finest_rate 'coarse'"):
        ScreeningSettings(finest_rate="coarse", coarsest_rate="full")


def test_a_snapshot_goes_on_and_one_of_before_there_were_rates_is_read():
    budget = ByteBudget(5000, 20_000)
    budget.charge(budget.admit(), 700)
    again = ByteBudget(5000, 20_000)
    again.restore(json.loads(json.dumps(budget.snapshot())))
    assert again == budget
    again.restore({"level": 900.0, "expected": 2000.0, "time_ns": 5})
    assert again.level == 900
    assert again.expected["full"] == 2000
    assert list(again.expected.values()) == sorted(again.expected.values(), reverse=True)


def test_an_unknown_rate_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="'tiny'; there are full, lean, coarse, least"):
        rate_named("tiny")
