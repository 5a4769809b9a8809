"""Ids survive a round trip through text, and nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.types import Gap, ItemId, ItemState, LedgerCounts, SampleId, new_epoch

DEVICES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True)


@given(DEVICES, st.integers(1, 2**63 - 1), st.integers(1, 0xFFFF))
def test_round_trip(device: str, sequence: int, item: int) -> None:
    identity = ItemId(SampleId(device, new_epoch(), sequence), item)
    assert ItemId.parse(str(identity)) == identity


@given(st.text(max_size=60))
def test_text_is_an_id_or_an_error(text: str) -> None:
    try:
        parsed = ItemId.parse(text)
    except InputError:
        return
    assert ItemId.parse(str(parsed)) == parsed


@pytest.mark.parametrize(("sequence", "item"), [("9" * 5000, "1"), ("1", "9" * 5000), ("\u0663", "1"), ("1", "\u0663")])
def test_numbers_of_any_length_and_other_digits_are_refused(sequence: str, item: str) -> None:
    with pytest.raises(InputError):
        ItemId.parse(f"cart/{'0' * 16}/{sequence}#{item}")


@pytest.mark.parametrize("args", [("Cart", "0" * 16, 1), ("cart", "xyz", 1), ("cart", "0" * 16, 0)])
def test_bad_parts_are_refused(args: tuple[str, str, int]) -> None:
    with pytest.raises(InputError):
        SampleId(*args)


def test_order_is_by_sequence_then_item() -> None:
    first, second = (SampleId("cart", "0" * 16, n) for n in (2, 10))
    assert ItemId(first, 9) < ItemId(second, 1)


def test_books() -> None:
    counts = LedgerCounts(3, 1, {ItemState.PASSED: 4, ItemState.PENDING: 1})
    assert counts.item_total == 5
    assert not counts.closed
    assert Gap(3, 7, "restart").count == 5
    assert [state for state in ItemState if not state.final] == [ItemState.PENDING]
