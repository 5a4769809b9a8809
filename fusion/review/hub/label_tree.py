"""Every slot's labels as one tree of tokens, so that one forward scores them all, labels of several tokens included.

A branch a slot, all beginning at the same place behind what the rows share: the tokens that its labels have in common
(`{"condition": "`), then a trie of the labels. A token sees its ancestors and nothing of other branches, and stands as
far on as it is deep. What a label costs is the sum of its tokens' log-probabilities, each read at the token before it;
the first is read where the branch ends, so only what lies deeper needs the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ModelError

Tokenize = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a label: `token` is read at the tree's token `at`; `first` where all labels of the slot part."""

    at: int
    token: int
    first: bool


@dataclass(frozen=True, slots=True, eq=False)
class LabelTree:
    """N tokens in the order in which they are met going down every branch in turn: what lies below one follows it.

    `ids`, `parents` (-1 for the first of a branch) and `depths` (from 0) are (N,) int64.
    `labels` has a tuple of steps for every option of every slot, in the task's order.
    """

    ids: NDArray[np.int64]
    parents: NDArray[np.int64]
    depths: NDArray[np.int64]
    labels: tuple[tuple[tuple[Step, ...], ...], ...]

    def sees(self) -> NDArray[np.bool_]:
        """(N, N): whether token i sees token j, that is, j is i or an ancestor of it."""
        seen = np.eye(len(self.ids), dtype=np.bool_)
        for index, parent in enumerate(self.parents):  # a parent comes before its children
            if parent >= 0:
                seen[index] |= seen[parent]
        return seen

    def ends(self) -> NDArray[np.int64]:
        """(N,): where what lies below a token ends, so that token i sees j just where j <= i < ends[j]."""
        ends = np.arange(1, len(self.ids) + 1)
        for index in range(len(self.ids) - 1, -1, -1):
            if (parent := self.parents[index]) >= 0:
                ends[parent] = max(ends[parent], ends[index])
        return ends

    def read_at(self) -> NDArray[np.int64]:
        """The tokens at which something is read, in order."""
        return np.unique([step.at for slot in self.labels for label in slot for step in label])


def build_tree(stems: Sequence[str], options: Sequence[Sequence[str]], tokenize: Tokenize) -> LabelTree:
    """The tree of slots whose answers are written `stem` and an option of its `options`, then a quotation mark.

    Raises `ModelError` where two options of a slot cannot be told apart.
    """
    growing = _Growing()
    labels = []
    for stem, choices in zip(stems, options, strict=True):
        written = _spelled(stem, choices, tokenize)
        shared = _shared(written)
        if not shared:
            raise ModelError(f"the tokenizer writes the answers {list(choices)} with nothing in common before them")
        root = growing.chain(-1, written[0][:shared])
        steps = {ids: growing.label(root, ids[shared:]) for ids in sorted(map(tuple, written))}
        labels.append(tuple(steps[tuple(ids)] for ids in written))
    return growing.done(tuple(labels))


def _spelled(stem: str, choices: Sequence[str], tokenize: Tokenize) -> list[list[int]]:
    """Each choice's tokens, with the closing mark only where one would otherwise begin another."""
    plain = [list(tokenize(stem + choice)) for choice in choices]
    if not _any_begins_another(plain):
        return plain
    closed = [list(tokenize(f'{stem}{choice}"')) for choice in choices]
    if _any_begins_another(closed):
        raise ModelError(f"the tokenizer cannot tell the answers {list(choices)} apart")
    return closed


def _any_begins_another(written: Sequence[Sequence[int]]) -> bool:
    rows = sorted(tuple(ids) for ids in written)
    return any(after[: len(before)] == before for before, after in pairwise(rows))


def _shared(written: Sequence[Sequence[int]]) -> int:
    """How many first tokens all have in common, each keeping one of its own at least."""
    count = 0
    while all(len(ids) > count + 1 for ids in written) and len({ids[count] for ids in written}) == 1:
        count += 1
    return count


class _Growing:
    """A tree under construction."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._parents: list[int] = []
        self._depths: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def chain(self, parent: int, ids: Sequence[int]) -> int:
        """Add a branch of its own; returns its last token."""
        for token in ids:
            parent = self._add(parent, token)
        return parent

    def label(self, root: int, ids: Sequence[int]) -> tuple[Step, ...]:
        """The steps of a label, whose tokens but the last are in the tree from now on; labels come sorted."""
        steps, at = [], root
        for place, token in enumerate(ids):
            steps.append(Step(at, token, first=place == 0))
            if place < len(ids) - 1:
                known = self._children.get((at, token))
                at = self._add(at, token) if known is None else known
        return tuple(steps)

    def done(self, labels: tuple[tuple[tuple[Step, ...], ...], ...]) -> LabelTree:
        ids, parents, depths = (np.array(column, np.int64) for column in (self._ids, self._parents, self._depths))
        return LabelTree(ids, parents, depths, labels)

    def _add(self, parent: int, token: int) -> int:
        number = len(self._ids)
        self._ids.append(token)
        self._parents.append(parent)
        self._depths.append(self._depths[parent] + 1 if parent >= 0 else 0)
        if parent >= 0:
            self._children[parent, token] = number
        return number
