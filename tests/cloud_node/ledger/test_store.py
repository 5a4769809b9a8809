"""Exactly one row an item, whatever comes twice, in either database; damage is noticed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_node.ledger import (
    Correction,
    Damaged,
    DeviceReport,
    OlderError,
    Search,
    SqliteLedger,
    open_ledger,
    open_reader,
    undamaged,
)
from cloud_node.outcome import Outcome, Timings, header_of, refused, reviewed
from fusion.errors import InputError, SpoolError
from fusion.types import ItemState, LedgerCounts, SlotAnswer, Verdict
from fusion.wire.messages import Submission


def test_an_outcome_comes_back_as_it_was_stored(ledger, reader, item, make_evidence):
    evidence = make_evidence(3)
    verdict = Verdict(
        evidence.item, {"object": SlotAnswer("drum", {"drum": 0.75})}, True, ("maps",), "fixed:yard", "ab"
    )
    kept = reviewed(Submission.of(evidence), evidence, verdict, Timings(received_ns=7, review_ns=9))
    gone = refused(Submission.of(make_evidence(4)), None, ItemState.QUARANTINED, "bad crc", Timings())
    assert ledger.store([kept, gone]) == [kept, gone]
    bare = [replace(one, evidence=None) for one in (kept, gone)]
    assert ledger.find([kept.item, item(99), gone.item]) == [bare[0], None, bare[1]]
    assert list(reader.outcomes(with_evidence=True)) == [kept, gone]
    assert list(reader.outcomes()) == bare
    assert reader.one(kept.item, with_evidence=True).outcome == kept
    assert kept.header == header_of(evidence)
    assert kept.header["models"] == {"fusion": "f1"}


def test_the_second_store_of_an_item_changes_nothing(ledger, reader, item, outcome):
    first, second = outcome(item(1), option="drum"), outcome(item(1), option="cone", evidence=b"other")
    assert ledger.store([first]) == [first]
    assert ledger.store([second, outcome(item(2))]) == [first, outcome(item(2))]
    assert ledger.store([outcome(item(1), ItemState.EXPIRED)]) == [first]
    assert ledger.store([outcome(item(3)), outcome(item(3), option="cone")]) == [outcome(item(3))] * 2
    assert ledger.store([]) == []
    assert reader.counts() == {ItemState.REVIEWED: 3}
    assert list(reader.outcomes(with_evidence=True)) == [first, outcome(item(2)), outcome(item(3))]


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(1, 6),
                st.integers(1, 2),
                st.sampled_from([ItemState.REVIEWED, ItemState.EXPIRED, ItemState.QUARANTINED, ItemState.SHED]),
                st.sampled_from(["drum", "cone"]),
                st.sampled_from([None, b"one", b"two"]),
            ),
            max_size=6,
        ),
        max_size=8,
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_outcome_of_an_item_wins_for_ever(tmp_path_factory, item, outcome, groups):
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    expected = {}
    for group in [*groups, []]:
        made = SqliteLedger.open(path)  # every group in another life of the service
        wanted = [outcome(item(n, k), state, option, evidence=blob) for n, k, state, option, blob in group]
        for one in wanted:
            expected.setdefault(one.item, one)
        assert [replace(one, evidence=None) for one in made.store(wanted)] == [
            replace(expected[one.item], evidence=None) for one in wanted
        ]
        assert made.last_acknowledged("cart-1", "0" * 16) == max(expected, default=None)
        made.close()
    reader = SqliteLedger.open_reader(path)
    assert {one.item: one for one in reader.outcomes(with_evidence=True)} == expected
    assert sum(reader.counts().values()) == len(expected)
    reader.close()


def test_a_state_that_is_not_final_is_refused_and_takes_its_group_along(ledger, reader, item, outcome):
    with pytest.raises(SpoolError) as refusal:
        ledger.store([outcome(item(1)), outcome(item(2), ItemState.PENDING)])
    assert "final_state" in str(refusal.value)
    assert "ef" * 32 not in str(refusal.value)
    assert reader.counts() == {}
    assert ledger.store([outcome(item(1))])


@pytest.mark.parametrize(
    "damage",
    [
        "slots = replace(slots, '0.75', '0.95')",
        "value = 0.75",
        "answered_ns = 3",
        "task = 'pcb'",
        "evidence_sha256 = ''",
    ],
)
def test_a_changed_row_is_noticed(place, ledger, reader, item, outcome, damage):
    ledger.store([outcome(item(1)), outcome(item(2))])
    place.execute(f"UPDATE outcomes SET {damage} WHERE sequence = 1")
    with pytest.raises(SpoolError, match=r"cart-1/0+/1#1 is damaged"):
        ledger.find([item(1)])
    with pytest.raises(SpoolError, match=r"cart-1/0+/1#1 is damaged"):
        reader.one(item(1))
    assert ledger.find([item(2)]) == [outcome(item(2))]


def test_a_damaged_row_is_told_in_its_place_among_all(place, ledger, reader, item, outcome):
    ledger.store([outcome(item(n), evidence=b"of %d" % n) for n in range(1, 5)])
    place.execute("UPDATE outcomes SET slots = '{' WHERE sequence = 2")
    kind = "blob" if "sqlite" in place.url else "bytea"
    place.execute(f"UPDATE evidence SET blob = CAST('else' AS {kind}) WHERE id = 3")
    first, changed, other, last = reader.outcomes(with_evidence=True)
    assert [first.evidence, last.evidence] == [b"of 1", b"of 4"]
    assert [one.item for one in (changed, other)] == [str(item(2)), str(item(3))]
    assert isinstance(changed, Damaged)
    assert other.line == f"the ledger's evidence of {item(3)} is damaged: its digest does not match"
    assert [type(one) for one in reader.outcomes()] == [Outcome, Damaged, Outcome, Outcome]
    rows = undamaged(reader.outcomes())
    assert next(rows).item == item(1)
    with pytest.raises(SpoolError, match=f"{item(2)} is damaged"):
        next(rows)


def test_changed_evidence_is_noticed(place, ledger, reader, item, outcome):
    ledger.store([outcome(item(1), evidence=b"what was sent")])
    kind = "blob" if "sqlite" in place.url else "bytea"
    place.execute(f"UPDATE evidence SET blob = CAST('something else' AS {kind})")
    assert reader.one(item(1)).outcome.evidence is None
    with pytest.raises(SpoolError, match="evidence of cart-1"):
        reader.one(item(1), with_evidence=True)


def test_evidence_is_kept_only_when_asked(place, make_evidence):
    submission = Submission.of(make_evidence(1))
    made = open_ledger(place.name, keep_evidence=False)
    made.store([refused(submission, make_evidence(1), ItemState.SHED, "", Timings())])
    reader = made.reader()
    (stored,) = reader.outcomes(with_evidence=True)
    assert stored.evidence is None
    assert stored.state is ItemState.SHED
    assert len(stored.evidence_sha256) == 64
    reader.close()
    made.close()


def test_what_a_device_wrote_cannot_break_the_store(ledger, make_evidence):
    strange = refused(
        Submission.of(make_evidence(1)), None, ItemState.QUARANTINED, "no \0 class 'ü\U0001f600'", Timings()
    )
    strange = replace(strange, header={"value": float("nan"), "models": {"\0": "\udc80"}})
    assert ledger.store([strange]) == [strange]
    assert "\\0" in ledger.find([strange.item])[0].reason


def test_a_later_report_replaces_the_earlier(ledger, reader):
    first = DeviceReport("cart-1", "0" * 16, 1, LedgerCounts(1, 0, {}))
    last = DeviceReport("cart-1", "0" * 16, 2, LedgerCounts(5, 1, {ItemState.PASSED: 4}))
    other = replace(first, device="cart-0")
    ledger.store_reports([first])
    ledger.store_reports([replace(first, received_ns=9), other, last])
    ledger.store_reports([])
    assert reader.reports() == [other, last]


def test_a_probe_leaves_nothing_and_fails_where_nothing_can_be_written(place, ledger, reader):
    ledger.probe()
    ledger.probe()
    assert reader.reports() == []
    place.execute("DROP TABLE reports")
    with pytest.raises(SpoolError, match="cannot be written"):
        ledger.probe()


def test_the_highest_item_of_an_epoch_is_acknowledged(ledger, item, outcome):
    assert ledger.last_acknowledged("cart-1", "0" * 16) is None
    ledger.store([outcome(item(2, 1)), outcome(item(2, 3)), outcome(item(1, 7)), outcome(item(9, device="cart-2"))])
    assert ledger.last_acknowledged("cart-1", "0" * 16) == item(2, 3)


def test_corrections_are_kept_in_order_and_the_last_counts(place, ledger, reader, item, outcome):
    ledger.store([outcome(item(1)), outcome(item(2))])
    said = [
        Correction(item(1), "ada", 10, {"object": "cone"}),
        Correction(item(1), "bob", 5, {"object": "unsure"}, "dark, 'smeared'\n"),
        Correction(item(1), "ada", 10, {"object": "drum"}),
    ]
    for correction in [*said, said[0]]:  # the last came twice
        ledger.record_correction(correction)
    assert reader.corrections(item(1)) == said
    assert reader.corrections(item(2)) == []
    assert reader.one(item(1)).correction == said[-1]
    assert reader.one(item(2)).correction is None
    assert reader.one(item(3)) is None
    assert reader.one(item(1)).outcome == outcome(item(1))
    assert place.execute("SELECT item_id, corrected_by FROM verdicts ORDER BY sequence") == [
        (str(item(1)), "ada"),
        (str(item(2)), None),
    ]
    place.execute("UPDATE corrections SET author = 'eve' WHERE author = 'bob'")
    with pytest.raises(SpoolError, match="correction of cart-1"):
        reader.corrections(item(1))


def test_a_correction_of_nothing_or_that_says_nothing_is_refused(ledger, item):
    with pytest.raises(InputError, match=r"cart-1/0+/1#1 has no outcome"):
        ledger.record_correction(Correction(item(1), "ada", 1, {"object": "cone"}))
    cone = {"object": "cone"}
    for author, answers in (("", cone), ("ada", {}), ("ada", {"object": ""})):
        with pytest.raises(InputError, match="needs an author and an answer"):
            Correction(item(1), author, 1, answers)
    for author, at_ns, note in (("a\0", 1, ""), ("ada", 1, "\udc80"), ("ada", 2**63, ""), ("ada", -1, "")):
        with pytest.raises(InputError, match=r"cannot be stored|no time"):
            Correction(item(1), author, at_ns, cone, note)


def test_a_newer_schema_is_refused_by_its_number(place, ledger):
    is_sqlite = "sqlite" in place.url
    place.execute("PRAGMA user_version = 99" if is_sqlite else "UPDATE ledger_schema SET version = 99")
    ledger.close()
    for opening in (open_ledger, open_reader):
        with pytest.raises(SpoolError, match="of schema 99, this program knows 3"):
            opening(place.name)


@pytest.mark.parametrize("upgraded_by", ["service", "reader"])
def test_a_ledger_of_schema_2_is_brought_up_to_date(place, ledger, item, outcome, upgraded_by):
    stored = ledger.store([outcome(item(1))])[0]
    ledger.close()
    is_sqlite = "sqlite" in place.url
    place.execute("DROP VIEW verdicts")
    place.execute("ALTER TABLE outcomes DROP COLUMN rationale")
    place.execute("CREATE VIEW verdicts AS SELECT o.*, 'nobody' AS corrected_by FROM outcomes o")
    place.execute("PRAGMA user_version = 2" if is_sqlite else "UPDATE ledger_schema SET version = 2")
    with pytest.raises(OlderError, match="of schema 2; a service brings it up to date"):
        open_reader(place.name)  # a reader may have no right to change tables
    if upgraded_by == "reader":
        open_reader(place.name, upgrade=True).close()
    again = open_ledger(place.name)
    explained = outcome(item(2))
    explained = replace(explained, verdict=replace(explained.verdict, rationale="it leaks"))
    assert again.find([item(1)]) == [replace(stored, evidence=None)]
    again.store([explained])
    assert again.find([item(2)])[0].verdict.rationale == "it leaks"
    again.close()
    reader = open_reader(place.name)
    assert [one.verdict.rationale for one in reader.outcomes()] == ["", "it leaks"]
    reader.close()
    assert place.execute("SELECT rationale, corrected_by FROM verdicts ORDER BY id") == [
        (None, None),
        ("it leaks", None),
    ]


def test_a_reader_is_shared_by_threads_while_rows_come(ledger, reader, item, outcome):
    ledger.store([outcome(item(1))])
    done = threading.Event()

    def look():
        seen = [1]
        while not done.is_set():
            seen.append(reader.counts()[ItemState.REVIEWED])
            assert len(reader.search(Search()).records) >= min(seen[-1], 50)
            assert reader.one(item(1)).outcome == outcome(item(1))
        return seen

    with ThreadPoolExecutor(6) as pool:
        looking = [pool.submit(look) for _ in range(6)]
        for n in range(2, 40):
            ledger.store([outcome(item(n))])
        done.set()
        for seen in looking:
            assert seen.result(60) == sorted(seen.result())
    assert reader.counts() == {ItemState.REVIEWED: 39}


def test_a_reader_reads_while_a_group_is_written(ledger, reader, item, outcome):
    """From before until after the commit, which waits for no reader that is in the middle of something."""
    ledger.store([outcome(item(n)) for n in range(1, 700)])
    rows = reader.outcomes()
    assert next(rows) == outcome(item(1))
    with ledger._database.transaction("written"):
        assert reader.counts() == {ItemState.REVIEWED: 699}
    ledger.store([outcome(item(700))])
    assert sum(1 for _ in rows) == 699
    assert reader.counts() == {ItemState.REVIEWED: 700}
    assert not hasattr(reader, "store")
