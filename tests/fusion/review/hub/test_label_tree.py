"""The tree of answers holds every label's tokens, each behind what it must be read behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import ModelError
from fusion.review.hub.label_tree import build_tree


def by_pieces(size: int):
    """A tokenizer of up to `size` letters a token."""
    return lambda text: [hash_of(text[start : start + size]) for start in range(0, len(text), size)]


def hash_of(piece: str) -> int:
    return int.from_bytes(piece.encode(), "big")


labels = st.lists(st.text("abc", min_size=1, max_size=7), min_size=2, max_size=6, unique=True)
slots = st.lists(st.tuples(st.text("xyz", min_size=6, max_size=9), labels), min_size=1, max_size=4)


@given(slots, st.integers(1, 3))
@settings(max_examples=200)
def test_every_label_is_read_behind_its_own_beginning(asked, size) -> None:
    tokenize = by_pieces(size)
    try:
        tree = build_tree([stem for stem, _ in asked], [options for _, options in asked], tokenize)
    except ModelError:  # a piece may end inside two labels alike
        return
    sees = tree.sees()
    order = np.arange(len(sees))
    assert (sees == ((order <= order[:, None]) & (order[:, None] < tree.ends()))).all()
    for (stem, options), steps_of in zip(asked, tree.labels, strict=True):
        assert len({steps[0].at for steps in steps_of}) == 1
        for option, steps in zip(options, steps_of, strict=True):
            for step in steps:
                before = np.flatnonzero(sees[step.at])
                written = [*tree.ids[before].tolist(), step.token]
                assert written in (
                    tokenize(stem + option)[: len(written)],
                    tokenize(f'{stem}{option}"')[: len(written)],
                )
                assert tree.depths[before].tolist() == list(range(len(before)))
                assert step.first == (step is steps[0])
            assert [*tree.ids[np.flatnonzero(sees[steps[-1].at])], steps[-1].token] in (
                tokenize(stem + option), tokenize(f'{stem}{option}"'),
            )  # fmt: skip


def test_one_label_that_begins_another_is_closed() -> None:
    tree = build_tree(["ab"], [["x", "xy"]], by_pieces(1))
    assert "".join(map(chr, tree.ids)) == "abxy"
    assert [[chr(step.token) for step in label] for label in tree.labels[0]] == [['"'], ["y", '"']]


def test_labels_of_one_token_cost_no_token() -> None:
    tree = build_tree(["ab", "cd"], [["x", "y"], ["u", "v"]], by_pieces(1))
    assert "".join(map(chr, tree.ids)) == "abcd"
    assert tree.parents.tolist() == [-1, 0, -1, 2]


def test_labels_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ModelError, match="apart"):
        build_tree(["ab"], [["x", "y"]], lambda text: [1, 2, 3] if text.endswith(("x", "y")) else [1, 2, 3, 4])
