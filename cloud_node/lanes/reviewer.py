"""Runs a reviewer on batches: prepares the rows, scores them in one forward, and isolates the row that breaks it.

A row that cannot be prepared never reaches the batch. When a forward fails, the batch is halved until the failing
rows stand alone, unless the reviewer says itself which they are (`RowsError`). Whether such a row is poison or the
reviewer itself is broken is settled by a witness, the last row that was scored well: if that fails too, or no row ever
was, nobody is to blame but the reviewer, and the rows may come again. A blind row is no witness: no model scored it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cloud_node.lanes.warmup import example_of
from fusion.errors import EvidenceError, FusionError, UnavailableError
from fusion.review import LostError, PreparedItem, Reviewer, RowsError, check_answers
from fusion.review.rationale import CarryOn, Explains, plain
from fusion.types import Evidence, ItemId, SlotAnswer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """The row's answers, checked against the task; `blind` where they say nothing of the item nor of the reviewer."""

    answers: Mapping[str, SlotAnswer]
    blind: bool = False


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The row can never be reviewed; `scored` is False when its evidence could not even be made a row."""

    reason: str
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """The reviewer failed; the row may come again.

    `away` when the reviewer says that the row is not to blame; `lost` when the reviewer itself was lost meanwhile.
    """

    reason: str
    away: bool = False
    lost: bool = False


RowResult: TypeAlias = Scored | Poisoned | Failed


class Memory:
    """What is remembered from batch to batch: the witness, and the last row that failed where none was scored well.

    Replicas share one, from several threads: a row that one scored well is a witness for all, so a replica that never
    worked is told from poison.
    """

    def __init__(self) -> None:
        self.witness: PreparedItem | None = None
        """The last row that was scored well; None while there was none."""

        self.failed: PreparedItem | None = None

    def testify(self, row: PreparedItem) -> None:
        """`row` was scored well; a blind one proves nothing."""
        if not row.blind:
            self.witness = row


class BatchReviewer:
    """Runs one reviewer, or one replica of it: one batch at a time. `price` and `prepare` may be called meanwhile."""

    def __init__(self, reviewer: Reviewer, memory: Memory | None = None) -> None:
        self.reviewer = reviewer
        self.memory = memory or Memory()

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
        return self.review_prepared([self.prepare(evidence) for evidence in batch])

    def review_prepared(self, prepared: Sequence[PreparedItem | Poisoned]) -> list[RowResult]:
        """As `review`, of rows that `prepare` gave."""
        rows = [row for row in prepared if isinstance(row, PreparedItem)]
        scored = self._settle(rows, self._score(rows))
        return [scored[row.item] if isinstance(row, PreparedItem) else row for row in prepared]

    def prepare(self, evidence: Evidence) -> PreparedItem | Poisoned:
        """A row for `review_prepared`. Never raises; may be called while a batch is reviewed."""
        try:
            return self.reviewer.prepare(evidence)
        except FusionError as error:
            return _blamed(evidence.item, error)
        except Exception as error:  # noqa: BLE001 whatever one row does to the reviewer, its batch mates are answered
            _log.exception("%s cannot prepare %s", self.reviewer.name, evidence.item)
            return Poisoned(f"{evidence.item}: the reviewer cannot prepare it ({type(error).__name__})", scored=False)

    def answers_again(self) -> bool:
        """Whether it scores the witness; where there is none, a made-up row or else the last that failed."""
        row = self.memory.witness or self._made_up() or self.memory.failed
        return row is not None and self._scores(row)

    def _made_up(self) -> PreparedItem | None:
        try:
            example = example_of(self.reviewer, 0)
            return None if example is None else self.reviewer.prepare(example)
        except Exception:  # noqa: BLE001 a reviewer that fails may fail at this too
            return None

    def _score(self, rows: Sequence[PreparedItem]) -> dict[ItemId, RowResult]:
        if not rows:
            return {}
        try:
            answers = self._ask(rows)
            return {row.item: self._checked(row, answer) for row, answer in zip(rows, answers, strict=True)}
        except LostError as error:
            return {row.item: Failed(f"{row.item}: {error}", away=True, lost=True) for row in rows}
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

    def _checked(self, row: PreparedItem, answers: Mapping[str, SlotAnswer] | FusionError) -> RowResult:
        if isinstance(answers, EvidenceError):
            return _blamed(row.item, answers)
        if isinstance(answers, FusionError):
            return Failed(f"{row.item}: {answers}", away=isinstance(answers, UnavailableError))
        try:
            check_answers(self.reviewer.task, answers)
        except FusionError as error:
            return Failed(f"{row.item}: {error}")
        return Scored(answers, row.blind)

    def _settle(self, rows: Sequence[PreparedItem], results: dict[ItemId, RowResult]) -> dict[ItemId, RowResult]:
        """Tell poison from a broken reviewer."""
        seeing = [row for row in rows if not row.blind]
        good = [row for row in seeing if isinstance(results[row.item], Scored)]
        if good:
            self.memory.testify(good[0])
        else:
            self.memory.failed = seeing[-1] if seeing else self.memory.failed
        if not any(isinstance(result, Failed) and not result.away for result in results.values()):
            return results
        sound = bool(good) or self._witness_stands()
        return {item: _judged(result) if sound else result for item, result in results.items()}

    def _witness_stands(self) -> bool:
        return self.memory.witness is not None and self._scores(self.memory.witness)

    def _scores(self, row: PreparedItem) -> bool:
        return isinstance(self._score([row])[row.item], Scored)


def _judged(result: RowResult) -> RowResult:
    """Of a reviewer that is sound: who fails is poison."""
    return Poisoned(result.reason) if isinstance(result, Failed) and not result.away else result


def _blamed(item: ItemId, error: FusionError) -> Poisoned:
    """The evidence is at fault, and its reason names it."""
    return Poisoned(str(error) if str(item) in str(error) else f"{item}: {error}", scored=False)
