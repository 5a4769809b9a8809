"""What became of every item that a device wanted reviewed, and what that amounts to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np


class End(StrEnum):
    """How an item ended, as its device sees it."""

    ANSWERED = "answered"
    EXPIRED = "expired"  # finally refused: its deadline cannot be made
    REFUSED = "refused"  # not now: it may come again
    FAILED = "failed"  # an error that overload does not explain
    SILENT = "silent"  # no word before the client gave up


@dataclass(frozen=True, slots=True)
class Fate:
    """One item. Seconds after the start: when it was due, and when its end was told (None: never)."""

    device: int
    sequence: int
    due_s: float
    end: End
    told_s: float | None = None

    @property
    def latency_s(self) -> float | None:
        """From when it was due, however late it was sent, to its answer; None without one."""
        return self.told_s - self.due_s if self.told_s is not None and self.end is End.ANSWERED else None

    def in_time(self, deadline_s: float | None) -> bool:
        """Whether it was answered by its deadline."""
        return self.latency_s is not None and (deadline_s is None or self.latency_s <= deadline_s)


@dataclass(frozen=True, slots=True)
class Books:
    """Totals of a run. `sent` = `in_time` + `late` + `expired` + `refused` + `failed` + `silent`.

    Rates are a second of the `seconds` over which items were due. Latencies are of all answers, in time or late;
    `p99_all_ms` counts an item without an answer as infinitely late (None). `fairness` is the least device's share of
    items answered in time over the median device's: 1 is even, 0 means that one got nothing.
    """

    sent: int
    seconds: float
    in_time: int
    late: int
    expired: int
    refused: int
    failed: int
    silent: int
    goodput_s: float
    average_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    p99_all_ms: float | None
    fairness: float | None

    @classmethod
    def of(cls, fates: Sequence[Fate], seconds: float, deadline_s: float | None = None) -> Self:
        """Add up."""
        ends = Counter(fate.end for fate in fates)
        kept = sum(fate.in_time(deadline_s) for fate in fates)
        told = [fate.latency_s * 1e3 for fate in fates if fate.latency_s is not None]
        never = [float("inf")] * (len(fates) - len(told))
        return cls(
            sent=len(fates),
            seconds=seconds,
            in_time=kept,
            late=ends[End.ANSWERED] - kept,
            expired=ends[End.EXPIRED],
            refused=ends[End.REFUSED],
            failed=ends[End.FAILED],
            silent=ends[End.SILENT],
            goodput_s=kept / seconds,
            average_ms=float(np.mean(told)) if told else None,
            p50_ms=percentile(told, 50),
            p99_ms=percentile(told, 99),
            p99_all_ms=percentile([*told, *never], 99),
            fairness=fairness(fates, deadline_s),
        )

    @property
    def adds_up(self) -> bool:
        """Whether every item is in exactly one of the columns."""
        ends = self.in_time + self.late + self.expired + self.refused + self.failed + self.silent
        return ends == self.sent

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to what they are worth."""
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least `share` percent do not exceed; None without values, or when it is infinite."""
    ordered = sorted(values)
    if not ordered:
        return None
    value = ordered[max(0, int(np.ceil(len(ordered) * share / 100)) - 1)]
    return value if np.isfinite(value) else None


def fairness(fates: Sequence[Fate], deadline_s: float | None) -> float | None:
    """The least over the median of devices' shares (answered in time, of what each sent); None without answers."""
    sent, kept = Counter(fate.device for fate in fates), Counter(f.device for f in fates if f.in_time(deadline_s))
    shares = [kept[device] / count for device, count in sent.items()]
    middle = float(np.median(shares)) if shares else 0.0
    return min(shares) / middle if middle else None
