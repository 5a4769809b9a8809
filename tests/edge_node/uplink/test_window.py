"""The account of what is on its way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_node.spool import OutboxRow
from edge_node.uplink.window import Window
from fusion.types import ItemId, SampleId


def row(number: int) -> OutboxRow:
    return OutboxRow(number, ItemId(SampleId("cart-1", "0" * 16, number), 1), b"", 0, sent_before=False)


def test_a_refused_item_comes_back_after_its_pause():
    window = Window(2)
    window.sent(row(1), 0)
    window.sent(row(2), 0)
    assert window.room(0) == 0
    window.refused(row(1).item, 50, all_wait=False)
    assert (window.room(10), window.due(49), window.next_due_ns(10)) == (0, [], 50)  # it still counts as unanswered
    assert window.due(50) == [row(1)]
    window.sent(row(1), 50)
    assert window.due(60) == []
    assert window.oldest_wait_ns(60) == 60
    window.answered(row(2).item)
    assert (window.oldest_wait_ns(60), window.room(60)) == (10, 1)


def test_an_overload_pauses_everything():
    window = Window(4)
    window.sent(row(1), 0)
    window.sent(row(2), 0)
    window.refused(row(2).item, 30, all_wait=False)
    window.refused(row(1).item, 100, all_wait=True)
    assert (window.room(99), window.due(99), window.next_due_ns(99)) == (0, [], 100)
    assert window.due(100) == [row(1), row(2)]
    assert window.room(100) == 2


def test_an_overload_that_is_over_does_not_hide_a_later_item():
    window = Window(4)
    window.sent(row(1), 0)
    window.sent(row(2), 0)
    window.refused(row(1).item, 10, all_wait=True)
    window.sent(row(1), 10)
    window.refused(row(2).item, 500, all_wait=False)
    assert window.next_due_ns(20) == 500


def test_only_an_answer_is_waited_for_when_nothing_is_put_off():
    window = Window(2)
    window.sent(row(1), 0)
    window.refused(row(1).item, 10, all_wait=True)
    window.sent(row(1), 10)
    assert window.next_due_ns(10) is None


@given(st.lists(st.tuples(st.sampled_from(["send", "refuse", "overload", "answer", "wait"]), st.integers(1, 8))))
def test_the_window_is_never_exceeded_and_nothing_is_forgotten(steps):
    window, now, known = Window(3), 0, set()
    for action, number in steps:
        item = row(number).item
        if action == "send" and number not in known and window.room(now):
            window.sent(row(number), now)
            known.add(number)
        elif action in {"refuse", "overload"}:
            window.refused(item, now + 10 * number, all_wait=action == "overload")
        elif action == "answer":
            window.answered(item)
            known.discard(number)
        else:
            now += number
            for due in window.due(now):
                window.sent(due, now)
        assert window.unanswered == len(known) <= 3
        then = window.next_due_ns(now)
        if then is not None:
            assert window.due(max(now, then)) or window.room(max(now, then)) > window.room(now)
        assert not window.due(now) or (then is not None and then <= now)
