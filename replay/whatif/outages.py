"""When something works and when it does not, in nanoseconds of virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from replay.whatif.world import OutageSettings

Span = tuple[int, int]


class Outages:
    """The stretches of `OutageSettings`, those that overlap or touch joined."""

    def __init__(self, settings: OutageSettings) -> None:
        listed = sorted((_ns(begin), _ns(end)) for begin, end in settings.outages)
        self._listed = list(_joined(listed))
        self._listed_until_ns = max((end for _, end in self._listed), default=0)
        self._every_ns, self._for_ns = _ns(settings.every_s), _ns(settings.for_s)

    def next(self, now_ns: int) -> Span | None:
        """The outage that `now_ns` is in or that comes next; None when there is none any more."""
        first = self._earliest(now_ns)
        if first is None:
            return None
        end_ns = first[1]
        while (more := self._earliest(end_ns)) is not None and more[0] <= end_ns:
            end_ns = more[1]
        return first[0], end_ns

    def is_out(self, now_ns: int) -> bool:
        """Whether it does not work now."""
        coming = self.next(now_ns)
        return coming is not None and coming[0] <= now_ns

    def finish_ns(self, begin_ns: int, work_ns: int) -> int:
        """When `work_ns` of working time are over that begin at `begin_ns`; at the end of an outage at the earliest."""
        now_ns, left_ns = begin_ns, work_ns
        if self._every_ns and now_ns >= self._listed_until_ns:
            cycles = max(0, left_ns // (self._every_ns - self._for_ns) - 1)
            now_ns += cycles * self._every_ns
            left_ns -= cycles * (self._every_ns - self._for_ns)
        while (out := self.next(now_ns)) is not None and out[0] < now_ns + max(left_ns, 1):
            left_ns -= max(0, out[0] - now_ns)
            now_ns = out[1]
        return now_ns + left_ns

    def worked_ns(self, begin_ns: int, end_ns: int) -> int:
        """How much of a stretch it worked."""
        out_ns, now_ns = 0, begin_ns
        if self._every_ns and now_ns >= self._listed_until_ns:
            cycles = max(0, (end_ns - now_ns) // self._every_ns - 1)
            out_ns, now_ns = cycles * self._for_ns, now_ns + cycles * self._every_ns
        while (out := self.next(now_ns)) is not None and out[0] < end_ns:
            out_ns += min(out[1], end_ns) - max(out[0], now_ns)
            now_ns = out[1]
        return end_ns - begin_ns - out_ns

    def _earliest(self, now_ns: int) -> Span | None:
        """The first stretch that ends after `now_ns`, of those listed or repeated."""
        found = [span for span in self._listed if span[1] > now_ns][:1]
        if self._every_ns:
            found += [next(span for span in self._repeated(now_ns) if span[1] > now_ns)]
        return min(found, default=None)

    def _repeated(self, now_ns: int) -> Iterator[Span]:
        for number in count(now_ns // self._every_ns + 1):
            yield number * self._every_ns - self._for_ns, number * self._every_ns


def _joined(spans: list[Span]) -> Iterator[Span]:
    """Spans in order, without overlaps."""
    last: Span | None = None
    for span in spans:
        if last is not None and span[0] <= last[1]:
            last = last[0], max(last[1], span[1])
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
