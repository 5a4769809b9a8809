"""Exactly one row an item, whatever comes twice; damage is noticed; the file is opened by one service only."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_node.ledger import DeviceReport, SqliteLedger, open_ledger
from cloud_node.outcome import Outcome, Timings, header_of, refused, reviewed
from fusion.errors import ConfigError, SpoolError
from fusion.types import ItemId, ItemState, LedgerCounts, SampleId, SlotAnswer, Verdict
from fusion.wire.messages import Submission

EPOCH = "0" * 16


def item(sequence, number=1, device="cart-1"):
    return ItemId(SampleId(device, EPOCH, sequence), number)


def verdict(which, option="drum"):
    slots = {"object": SlotAnswer(option, {"drum": 0.75, "cone": 0.25})}
    return Verdict(which, slots, True, ("maps", "tokens"), "fixed:yard", "ab" * 32)


def outcome(which, state=ItemState.REVIEWED, option="drum"):
    answered = verdict(which, option) if state is ItemState.REVIEWED else None
    return Outcome(which, state, "cd" * 32, answered, "", "yard", "ef" * 32, {"value": 0.5}, Timings(1, 2, 3, 4, 5, 6))


@pytest.fixture
def ledger(tmp_path):
    made = SqliteLedger.open(tmp_path / "ledger.db")
    yield made
    made.close()


def test_an_outcome_comes_back_as_it_was_stored(ledger, make_evidence):
    evidence = make_evidence(3)
    submission = Submission.of(evidence)
    kept = reviewed(submission, evidence, verdict(evidence.item), Timings(received_ns=7, review_ns=9))
    gone = refused(Submission.of(make_evidence(4)), None, ItemState.QUARANTINED, "bad crc", Timings())
    assert ledger.store([kept, gone]) == [kept, gone]
    assert ledger.find([kept.item, item(99), gone.item]) == [
        replace(kept, evidence=None),
        None,
        replace(gone, evidence=None),
    ]
    assert list(ledger.outcomes(with_evidence=True)) == [kept, gone]
    assert kept.header == header_of(evidence)
    assert kept.header["opinion"]["label_scores"] == {"drum": 0.75}


def test_the_second_store_of_an_item_changes_nothing(ledger):
    first, second = outcome(item(1), option="drum"), outcome(item(1), option="cone")
    assert ledger.store([first]) == [first]
    assert ledger.store([second, outcome(item(2))]) == [first, outcome(item(2))]
    assert ledger.store([outcome(item(1), ItemState.EXPIRED)]) == [first]
    assert ledger.counts() == {ItemState.REVIEWED: 2}


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(1, 6),
                st.integers(1, 2),
                st.sampled_from([ItemState.REVIEWED, ItemState.EXPIRED, ItemState.QUARANTINED, ItemState.SHED]),
                st.sampled_from(["drum", "cone"]),
            ),
            max_size=6,
        ),
        max_size=8,
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_outcome_of_an_item_wins_for_ever(tmp_path_factory, groups):
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    expected = {}
    for group in groups:
        made = SqliteLedger.open(path)  # every group in another life of the service
        wanted = [outcome(item(n, k), state, option) for n, k, state, option in group]
        for one in wanted:
            expected.setdefault(one.item, one)
        assert made.store(wanted) == [expected[one.item] for one in wanted]
        made.close()
    made = SqliteLedger.open(path, read_only=True) if groups else SqliteLedger.open(path)
    assert {one.item: one for one in made.outcomes()} == expected
    assert sum(made.counts().values()) == len(expected)
    assert made.last_acknowledged("cart-1", EPOCH) == max(expected, default=None)
    made.close()


def test_a_state_that_is_not_final_is_refused_and_takes_its_group_along(ledger):
    with pytest.raises(SpoolError):
        ledger.store([outcome(item(1)), outcome(item(2), ItemState.PENDING)])
    assert ledger.counts() == {}
    assert ledger.store([outcome(item(1))])


def test_a_flipped_bit_in_a_row_is_noticed(ledger, tmp_path):
    ledger.store([outcome(item(1)), outcome(item(2))])
    with sqlite3.connect(tmp_path / "ledger.db") as other:
        other.execute("UPDATE outcomes SET slots = replace(slots, '0.75', '0.95') WHERE sequence = 1")
    with pytest.raises(SpoolError, match=r"cart-1/0+/1#1"):
        ledger.find([item(1)])
    assert ledger.find([item(2)]) == [outcome(item(2))]


def test_evidence_is_kept_only_when_asked(tmp_path, make_evidence):
    submission = Submission.of(make_evidence(1))
    made = SqliteLedger.open(tmp_path / "l.db", keep_evidence=False)
    made.store([refused(submission, make_evidence(1), ItemState.SHED, "", Timings())])
    (stored,) = made.outcomes(with_evidence=True)
    assert stored.evidence is None
    assert stored.state is ItemState.SHED
    assert len(stored.evidence_sha256) == 64


def test_a_later_report_replaces_the_earlier(ledger):
    first = DeviceReport("cart-1", EPOCH, 1, LedgerCounts(1, 0, {}))
    last = DeviceReport("cart-1", EPOCH, 2, LedgerCounts(5, 1, {ItemState.PASSED: 4}))
    ledger.store_report(first)
    ledger.store_report(last)
    assert ledger.reports() == [last]


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "text.db").write_text("not a database" * 100)
    with pytest.raises(SpoolError, match=r"text\.db"):
        SqliteLedger.open(tmp_path / "text.db")
    with pytest.raises(SpoolError, match=r"gone\.db"):
        SqliteLedger.open(tmp_path / "gone.db", read_only=True)
    with pytest.raises(ConfigError, match="sqlite"):
        open_ledger("tape:x")
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolError, match="schema 99"):
        SqliteLedger.open(tmp_path / "newer.db")


def test_one_service_a_ledger_but_readers_are_welcome(tmp_path):
    first = open_ledger(f"sqlite:{tmp_path / 'l.db'}")
    first.store([outcome(item(1))])
    with pytest.raises(SpoolError, match="another service"):
        open_ledger(str(tmp_path / "l.db"))
    reader = SqliteLedger.open(tmp_path / "l.db", read_only=True)
    assert len(list(reader.outcomes())) == 1
    with pytest.raises(SpoolError):
        reader.store([outcome(item(2))])
    first.close()
    open_ledger(str(tmp_path / "l.db")).close()
