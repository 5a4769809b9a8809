"""Who a trace and a span are. Both follow from the item's id, so they need no storage and survive kills and resends.

Whoever knows an item's id, from the spool, the ledger or a log line, knows where to find its trace.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from fusion.types import ItemId

MAX_TRACEPARENT = 256
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def trace_id(item: ItemId) -> str:
    """The item's trace: 32 lower-case hex digits."""
    return _digest(f"trace {item}", 16)


def span_id(item: ItemId, name: str) -> str:
    """The item's span `name`, which must be told apart from its others: 16 lower-case hex digits."""
    return _digest(f"span {item} {name}", 8)


def root_span_id(item: ItemId) -> str:
    """The span that everything of an item is under."""
    return span_id(item, "item")


def submit_span_id(item: ItemId) -> str:
    """The span of the item's way to the service and back: the parent of all that the service does."""
    return span_id(item, "submit")


def is_sampled(trace: str, ratio: float) -> bool:
    """Whether a trace is among the share `ratio` of all; every host that asks finds the same."""
    return int(trace[16:], 16) < round(ratio * (1 << 64))


@dataclass(frozen=True, slots=True)
class TraceContext:
    """W3C's `traceparent`: the trace, the span that caused what follows, and whether spans are kept at all."""

    trace: str
    parent: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.parent}-{int(self.sampled):02x}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a `traceparent`; None for one that is empty or malformed, which is to be ignored."""
        found = _FORM.fullmatch(text) if len(text) <= MAX_TRACEPARENT else None
        if found is None or (found[1] == "00" and found[5] is not None):
            return None
        return cls(found[2], found[3], bool(int(found[4], 16) & 1))


def _digest(text: str, size: int) -> str:
    found = hashlib.blake2b(text.encode(), digest_size=size, person=b"fusion-stack").hexdigest()
    return found if int(found, 16) else found[:-1] + "1"  # all zeros are not an id
