"""A reviewer's first batches, of made-up items: the slow first ones are over before a device waits for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud_node.config import BatchSettings
from fusion.clock import Clock
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import FusionError, ModelError, UnavailableError
from fusion.review import ANY_PROFILE, PreparedItem, Reviewer, RowsError, check_answers, waits_elsewhere
from fusion.review.synthetic import synthetic_evidence
from fusion.types import Evidence

LONG_NS = 1_000_000_000
"""No batch larger than one that took so long is tried."""


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """A batch of made-up items and how long it took, preparing and scoring."""

    items: int
    tokens: int
    duration_ns: int


def example_of(reviewer: Reviewer, seed: int) -> Evidence | None:
    """A made-up item that `reviewer` can read, None where nobody knows one.

    A reviewer of certain trunks may make its own by a method `example(seed)`; one of every trunk is shown a picture.
    """
    make = getattr(reviewer, "example", None)
    if make is not None:
        made: Evidence = make(seed)
        return made
    if ANY_PROFILE not in reviewer.profiles:
        return None
    profile = synthetic_profile(task=reviewer.task.name)
    return synthetic_evidence(reviewer.task, profile, seed, pixels=True)[0]


def warm_up(
    reviewer: Reviewer,
    settings: BatchSettings,
    clock: Clock,
    answered: Callable[[PreparedItem], None] = lambda _: None,
) -> list[TimedBatch]:
    """Score batches of 1, 2, 4, ... made-up items, each twice; the second counts. `answered` is given a row of each
    batch that was answered.

    Ends at the limits of a batch, or after one that took a second. Nothing is done with a reviewer that asks another
    machine or for which nobody knows an item, and no more with one whose machine turns out to be away. Raises
    `ModelError` naming the reviewer when it cannot do it.
    """
    if waits_elsewhere(reviewer) or (first := example_of(reviewer, 0)) is None:
        return []
    timed: list[TimedBatch] = []
    rows = [first]
    try:
        while len(rows) <= settings.items and (tokens := sum(map(reviewer.cost, rows))) <= settings.tokens:
            answered(_score(reviewer, rows))
            began_ns = clock.monotonic_ns()
            _score(reviewer, rows)
            timed.append(TimedBatch(len(rows), tokens, clock.monotonic_ns() - began_ns))
            if timed[-1].duration_ns > LONG_NS:
                break
            rows += [row for seed in range(len(rows), 2 * len(rows)) if (row := example_of(reviewer, seed))]
    except Exception as error:  # whatever else it raises, it cannot serve
        if _away(error):
            return timed
        raise ModelError(
            f"reviewer {reviewer.name} cannot answer a made-up item: {type(error).__name__}: {error}"
        ) from error
    return timed


def _away(error: Exception) -> bool:
    """Whether the reviewer says that what it needs is away; then it may come back while the service runs."""
    if isinstance(error, RowsError):
        return all(isinstance(row, UnavailableError) for row in error.rows if isinstance(row, FusionError))
    return isinstance(error, UnavailableError)


def _score(reviewer: Reviewer, rows: Sequence[Evidence]) -> PreparedItem:
    """The first of `rows`, which were answered well."""
    prepared = [reviewer.prepare(row) for row in rows]
    answers = reviewer.score(prepared)
    if len(answers) != len(rows):
        raise ModelError(f"{len(answers)} answers to {len(rows)} rows")
    for answer in answers:
        check_answers(reviewer.task, answer)
    return prepared[0]
