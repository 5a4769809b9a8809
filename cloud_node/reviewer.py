"""Runs a reviewer on batches: prepares the rows, scores them in one forward, and isolates the row that breaks it.

A row that cannot be prepared never reaches the batch. When a forward fails, the batch is halved until the failing
rows stand alone, unless the reviewer says itself which they are (`RowsError`). Whether such a row is poison or the
reviewer itself is broken is settled by a witness, the last row that was scored well: if that fails too, nobody is to
blame but the reviewer, and the rows may come again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fusion.errors import EvidenceError, FusionError, UnavailableError
from fusion.review import PreparedItem, Reviewer, RowsError, check_answers
from fusion.review.rationale import CarryOn, Explains, plain
from fusion.types import Evidence, ItemId, SlotAnswer

MAX_STRIKES = 3
"""A row that failed so often while no row ever succeeded is taken for poison."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """The row's answers, checked against the task."""

    answers: Mapping[str, SlotAnswer]


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The row can never be reviewed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The reviewer failed; the row may come again. `away` when the reviewer says that the row is not to blame."""

    reason: str
    away: bool = False


RowResult: TypeAlias = Scored | Poisoned | Failed


class BatchReviewer:
    """Runs one reviewer. Not thread-safe: one batch at a time."""

    def __init__(self, reviewer: Reviewer) -> None:
        self.reviewer = reviewer
        self._witness: PreparedItem | None = None
        self._strikes: Counter[ItemId] = Counter()

    def price(self, evidence: Evidence, most: int) -> int:
        """Tokens of a review, at most `most`; raises `EvidenceError` for what the reviewer cannot price."""
        try:
            tokens = self.reviewer.cost(evidence)
        except EvidenceError:
            raise
        except Exception as error:  # noqa: BLE001 whatever one item does to the reviewer, the others are served
            _log.exception("%s cannot price %s", self.reviewer.name, evidence.item)
            raise EvidenceError(f"{evidence.item}: the reviewer cannot price it ({type(error).__name__})") from None
        if not 1 <= tokens <= most:
            raise EvidenceError(f"{evidence.item}: costs {tokens} tokens, allowed are 1..{most}")
        return tokens

    def explain(self, evidence: Evidence, answers: Mapping[str, SlotAnswer], max_tokens: int, carry_on: CarryOn) -> str:
        """Why a row was given `answers`; see `Explains.explain`. Raises whatever the reviewer raises."""
        assert isinstance(self.reviewer, Explains)
        return plain(self.reviewer.explain(self.reviewer.prepare(evidence), answers, max_tokens, carry_on), cut=False)

    def review(self, batch: Sequence[Evidence]) -> list[RowResult]:
        """One result a row, in order. Never raises for what a row or the reviewer does."""
        prepared = [self._prepare(evidence) for evidence in batch]
        rows = [row for row in prepared if isinstance(row, PreparedItem)]
        scored = self._settle(rows, self._score(rows))
        return [scored[row.item] if isinstance(row, PreparedItem) else row for row in prepared]

    def _prepare(self, evidence: Evidence) -> PreparedItem | Poisoned:
        try:
            return self.reviewer.prepare(evidence)
        except FusionError as error:
            named = str(evidence.item) in str(error)
            return Poisoned(str(error) if named else f"{evidence.item}: {error}")
        except Exception as error:  # noqa: BLE001 whatever one row does to the reviewer, its batch mates are answered
            _log.exception("%s cannot prepare %s", self.reviewer.name, evidence.item)
            return Poisoned(f"{evidence.item}: the reviewer cannot prepare it ({type(error).__name__})")

    def _score(self, rows: Sequence[PreparedItem]) -> dict[ItemId, RowResult]:
        if not rows:
            return {}
        try:
            answers = self._ask(rows)
            return {row.item: self._checked(row, answer) for row, answer in zip(rows, answers, strict=True)}
        except Exception as error:  # noqa: BLE001 whatever one row does to the reviewer, its batch mates are answered
            if len(rows) == 1:
                _log.exception("%s cannot score %s", self.reviewer.name, rows[0].item)
                return {rows[0].item: Failed(f"{rows[0].item}: the reviewer failed on it ({type(error).__name__})")}
        middle = len(rows) // 2
        return self._score(rows[:middle]) | self._score(rows[middle:])

    def _ask(self, rows: Sequence[PreparedItem]) -> Sequence[Mapping[str, SlotAnswer] | FusionError]:
        try:
            return self.reviewer.score(rows)
        except RowsError as error:
            return error.rows

    def _checked(self, row: PreparedItem, answers: Mapping[str, SlotAnswer] | FusionError) -> Scored | Failed:
        if isinstance(answers, FusionError):
            return Failed(f"{row.item}: {answers}", away=isinstance(answers, UnavailableError))
        try:
            check_answers(self.reviewer.task, answers)
        except FusionError as error:
            return Failed(f"{row.item}: {error}")
        return Scored(answers)

    def _settle(self, rows: Sequence[PreparedItem], results: dict[ItemId, RowResult]) -> dict[ItemId, RowResult]:
        """Tell poison from a broken reviewer."""
        failures = [result for result in results.values() if isinstance(result, Failed)]
        if len(failures) < len(rows):
            self._witness = next(row for row in rows if isinstance(results[row.item], Scored))
            self._strikes.clear()
        if all(failure.away for failure in failures):
            return results
        sound = len(failures) < len(rows) or self._witness_stands()
        return {item: self._judge(item, result, sound=sound) for item, result in results.items()}

    def _witness_stands(self) -> bool:
        if self._witness is None:
            return False
        results = self._score([self._witness])
        return isinstance(results[self._witness.item], Scored)

    def _judge(self, item: ItemId, result: RowResult, *, sound: bool) -> RowResult:
        if not isinstance(result, Failed) or result.away:
            return result
        self._strikes[item] += 1
        struck_out = self._witness is None and self._strikes[item] >= MAX_STRIKES
        if not (sound or struck_out):
            return result
        del self._strikes[item]
        return Poisoned(result.reason)
