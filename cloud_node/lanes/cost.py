"""How long a batch takes, a line through what was measured; and how much later its answers are stored."""

from __future__ import annotations

from collections import deque

WINDOW = 64


class CostModel:
    """Nanoseconds = base + slope x tokens, by least squares over the last batches.

    Neither part is ever negative. Before the first batch it predicts 0, so that nothing is dropped on a guess.
    The idea is BentoML's adaptive batching; the fit is over tokens instead of rows.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=WINDOW)
        self._base = 0.0
        self._slope = 0.0

    def observe(self, tokens: int, duration_ns: int) -> None:
        """Learn from one batch."""
        self._seen.append((tokens, duration_ns))
        count = len(self._seen)
        mean_tokens = sum(t for t, _ in self._seen) / count
        mean_ns = sum(d for _, d in self._seen) / count
        variance = sum((t - mean_tokens) ** 2 for t, _ in self._seen)
        covariance = sum((t - mean_tokens) * (d - mean_ns) for t, d in self._seen)
        self._slope = max(0.0, covariance / variance) if variance else 0.0
        self._base = mean_ns - self._slope * mean_tokens
        if self._base < 0:
            self._base, self._slope = 0.0, mean_ns / mean_tokens

    def predict_ns(self, tokens: int) -> int:
        """Expected duration of a batch of so many tokens."""
        return round(self._base + self._slope * tokens)


class Slip:
    """How much later than its batch was to end an answer is stored: what the prediction missed, and the commit.

    The mean and four mean deviations, both moving, as Jacobson (1988) has it for round trips.
    """

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    def observe(self, slip_ns: int) -> None:
        """Learn from one answer; one that is early counts as on time."""
        error = max(0, slip_ns) - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    def reserve_ns(self, left_ns: int) -> int:
        """What to keep of `left_ns` before a deadline; never more than a quarter, so that a slow spell ends."""
        return min(round(self._mean + 4 * self._deviation), max(0, left_ns) // 4)
