"""Pages of outcomes: filters, both orders, cursors that new rows do not move."""

import base64
import itertools

import pytest

from cloud_node.ledger import Correction, Order, Search
from fusion.errors import InputError
from fusion.types import ItemState, SlotAnswer, Verdict

DEEP = base64.b64encode(b"[" * 6000).decode()


def found(reader, search, limit=50, cursor=""):
    page = reader.search(search, limit=limit, cursor=cursor)
    return [record.outcome.item.sample.sequence for record in page.records], page.cursor


@pytest.fixture
def filled(ledger, reader, item, outcome):
    """Eight outcomes; of two answered at once, the one stored last is newer."""
    ledger.store(
        [
            outcome(item(1), at_ns=10, value=0.9),
            outcome(item(2), at_ns=20, value=0.1, option="cone"),
            outcome(item(3), at_ns=20, value=0.9, uncertain=False),
            outcome(item(4), ItemState.QUARANTINED, at_ns=30, header=None, task=""),
            outcome(item(5, device="cart-2"), at_ns=5, value=0.2),
            outcome(item(6), ItemState.EXPIRED, at_ns=60, value=0.4),
            outcome(item(7), at_ns=70, value=1 / 3, task="pcb"),
            outcome(item(8), at_ns=80, value=0.3, option="cone"),
        ]
    )
    ledger.record_correction(Correction(item(2), "ada", 1, {"object": "drum"}))
    ledger.record_correction(Correction(item(6), "ada", 2, {"object": "unsure"}))
    return reader


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (Search(), [8, 7, 6, 4, 3, 2, 1, 5]),
        (Search(Order.VALUE), [3, 1, 6, 7, 8, 5, 2, 4]),
        (Search(task="pcb"), [7]),
        (Search(task=""), [4]),
        (Search(device="cart-2"), [5]),
        (Search(state=ItemState.EXPIRED), [6]),
        (Search(uncertain=False), [3]),
        (Search(uncertain=True), [8, 7, 2, 1, 5]),
        (Search(slots={"object": "cone"}), [8, 2]),
        (Search(slots={"object": "drum", "condition": "ok"}), []),
        (Search(slots={'o" or 1=1 --': "it's"}), []),
        (Search(since_ns=20, before_ns=70), [6, 4, 3, 2]),
        (Search(corrected=True), [6, 2]),
        (Search(Order.VALUE, corrected=False, state=ItemState.REVIEWED), [3, 1, 7, 8, 5]),
    ],
)
def test_conditions_narrow_and_orders_sort(filled, search, expected):
    assert found(filled, search) == (expected, "")
    for limit in (1, 3):
        pages, cursor = [], ""
        for _ in itertools.count():
            page, cursor = found(filled, search, limit, cursor)
            pages.append(page)
            if not cursor:
                break
        assert list(itertools.chain(*pages)) == expected
        assert all(len(page) == limit for page in pages[:-1])


def test_a_record_tells_the_correction_that_counts(filled, item):
    page = filled.search(Search(corrected=True))
    assert [record.correction.answers for record in page.records] == [{"object": "unsure"}, {"object": "drum"}]
    assert all(record.correction is None for record in filled.search(Search(corrected=False)).records)


def test_rows_that_come_between_pages_move_nothing(filled, ledger, item, outcome):
    first, cursor = found(filled, Search(), 3)
    ledger.store([outcome(item(n), at_ns=1000 * n) for n in range(20, 30)])
    second, _ = found(filled, Search(), 50, cursor)
    assert first + second == [8, 7, 6, 4, 3, 2, 1, 5]


@pytest.mark.parametrize("forged", ["x", "bm9uc2Vuc2U=", "W10=", "WzEsMiwzXQ==", "ü", "eyJhIjoxfQ==", DEEP])
def test_a_cursor_of_another_search_is_refused(filled, forged):
    _, cursor = found(filled, Search(), 3)
    for search, other in ((Search(Order.VALUE), cursor), (Search(task="yard"), cursor), (Search(), forged)):
        with pytest.raises(InputError, match="cursor"):
            filled.search(search, cursor=other)


@pytest.mark.parametrize("damage", ["reason = 'other'", "device = ''", "slots = '{'", "epoch = '0\u00ff'"])
def test_a_damaged_row_is_told_and_the_others_found(place, filled, damage):
    place.execute(f"UPDATE outcomes SET {damage} WHERE sequence = 7")
    page = filled.search(Search(), limit=4)
    assert [record.outcome.item.sample.sequence for record in page.records] == [8, 6, 4]
    (one,) = page.damaged
    assert one.item.endswith("/7#1")
    assert f"{one.item} is damaged: its digest does not match" in one.line
    assert found(filled, Search(), 4, page.cursor) == ([3, 2, 1, 5], "")


def test_a_damaged_correction_is_told_with_its_item(place, filled, item):
    place.execute("UPDATE corrections SET note = 'other' WHERE author = 'ada' AND at_ns = 1")
    page = filled.search(Search(corrected=True))
    assert [record.outcome.item for record in page.records] == [item(6)]
    assert [one.item for one in page.damaged] == [str(item(2))]


def test_answers_are_found_whatever_they_are_called(ledger, reader, item, outcome):
    def answered(which, answers):
        told = {slot: SlotAnswer(option, {option: 0.5, "other": 0.5}) for slot, option in answers.items()}
        return outcome(which, verdict=Verdict(which, told, False, ("maps",), "fixed:yard", "ab" * 32))

    names = ["größe", 'a"b', "a\\", "%", "_", ", ", '{"x": {"option": "y", ', "option", "😀", "drum", "Drum", "drum 2"]
    slots = [{name: name} for name in names] + [
        {"probabilities": "x", "option": "drum"},
        {"x": '", "y": {"option": "z'},
    ]
    ledger.store([answered(item(n), answers) for n, answers in enumerate(slots, 1)])
    for n, answers in enumerate(slots, 1):
        for slot, option in answers.items():
            assert found(reader, Search(slots={slot: option})) == ([n], "")
            assert found(reader, Search(slots={slot: option[:-1]})) == ([], "")
        assert found(reader, Search(slots=answers)) == ([n], "")
    for slot, option in (("y", "z"), ("x", "y"), ("drum", "Drum"), ("DRUM", "drum"), ("b", 'a"b')):
        assert found(reader, Search(slots={slot: option})) == ([], "")


def test_damaged_answers_do_not_end_a_search_by_answers(place, filled):
    place.execute("UPDATE outcomes SET slots = '{' WHERE sequence = 8")
    assert found(filled, Search(slots={"object": "cone"})) == ([2], "")


def test_a_page_and_a_time_have_bounds(filled):
    for limit in (0, 1001):
        with pytest.raises(InputError, match="1 to 1000"):
            filled.search(Search(), limit=limit)
    for time_ns in (-1, 2**63):
        with pytest.raises(InputError, match="no time"):
            Search(since_ns=time_ns)
    for search in ({"task": "\0"}, {"slots": {"object": "\ud800"}}):
        with pytest.raises(InputError, match="cannot be stored"):
            Search(**search)


def test_orders_use_their_index(place, filled):
    if "sqlite" not in place.url:
        pytest.skip("the planner of PostgreSQL reads tables this small without an index")
    for column in ("answered_ns", "value"):
        (plan,) = place.execute(
            f"EXPLAIN QUERY PLAN SELECT id FROM outcomes WHERE ({column}, id) < (1, 1) ORDER BY {column} DESC, id DESC"
        )
        assert "USING COVERING INDEX outcomes_by_" in plan[-1]
        assert "TEMP B-TREE" not in plan[-1]
