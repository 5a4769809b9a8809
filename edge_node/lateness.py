"""How far a device is behind a paced recording, and which frames a live sensor would have lost meanwhile.

Pure accounts of times; memory does not grow with the recording.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

LIMIT_S = 0.5
"""How late a frame may be where nothing else is configured, as for live sensors."""
_STEP = math.log(1.02)
_FLOOR_MS = 0.1


@dataclass(slots=True)
class Lags:
    """Durations counted in classes 2 % wide, so percentiles are within 2 % of what they were."""

    count: int = 0
    most_ns: int = 0
    _classes: Counter[int] = field(default_factory=Counter)

    def add(self, lag_ns: int) -> None:
        """Count one in; one that is not late counts as none."""
        lag_ms = max(0, lag_ns) / 1e6
        self.count += 1
        self.most_ns = max(self.most_ns, lag_ns)
        self._classes[round(math.log(lag_ms / _FLOOR_MS) / _STEP) if lag_ms > _FLOOR_MS else 0] += 1

    def percentile_ms(self, wanted: float) -> float | None:
        """The smallest class that `wanted` per cent do not exceed, in milliseconds; None of nothing."""
        if not self.count:
            return None
        rank, seen = wanted / 100 * self.count, 0
        for number in sorted(self._classes):
            seen += self._classes[number]
            if seen >= rank:
                return round(_FLOOR_MS * math.exp(number * _STEP), 3) if number else 0.0
        return round(self.most_ns / 1e6, 3)


@dataclass(slots=True)
class Lateness:
    """What became of a paced recording's readings, and what would have become of a live sensor's.

    A recording waits while the device is behind; a live sensor does not. `would_drop` plays the same readings, each
    with what it took, through a reader and a pipeline that pass over frames more than `limit_s` late. A frame's work is
    what was worked from it to the next one: a synchronizer lets go of a sample only when later readings have come.
    """

    limit_s: float = LIMIT_S
    lags: Lags = field(default_factory=Lags)
    behind: int = 0
    would_drop: int = 0
    _read_ns: int = 0
    _free_ns: int = 0
    _dropping: bool = False

    def taken(self, due_ns: int, lag_ns: int, source_ns: int, took_ns: int, *, frame: bool) -> None:
        """A reading that was due at `due_ns` was taken `lag_ns` later.

        It took `source_ns` to read and `took_ns` to work on; `frame` says that it was one of the reference sensor.
        """
        self._read_ns = max(due_ns, self._read_ns + source_ns)
        begins_ns = max(self._read_ns, self._free_ns)
        if frame:
            self.lags.add(lag_ns)
            self.behind += lag_ns > self.limit_s * 1e9
            self._dropping = begins_ns - due_ns > self.limit_s * 1e9
            self.would_drop += self._dropping
        if not self._dropping:
            self._free_ns = begins_ns + took_ns

    def told(self) -> dict[str, float | int | None]:
        """For a summary: `lag_ms_p50 lag_ms_p99 lag_ms_max`, and frames in all, too late, and to be dropped."""
        most = round(self.lags.most_ns / 1e6, 3) if self.lags.count else None
        return {
            "frames": self.lags.count,
            "limit_s": self.limit_s,
            "lag_ms_p50": self.lags.percentile_ms(50),
            "lag_ms_p99": self.lags.percentile_ms(99),
            "lag_ms_max": most,
            "behind": self.behind,
            "would_drop": self.would_drop,
        }
