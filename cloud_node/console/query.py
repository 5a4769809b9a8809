"""A search as the query of a URL, and back: what is on the page can be sent to a colleague."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode

from cloud_node.ledger import Order, Search
from fusion.errors import InputError
from fusion.types import ItemState

PAGE = 50
MOST = 200
MAX_TEXT = 200
YES_NO = {"yes": True, "no": False}
_FIELDS = ("order", "task", "device", "state", "uncertain", "corrected", "since", "before")
_SLOT = re.compile(r"[a-z0-9][a-z0-9-]*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Query:
    """What a URL asks for: a search, how many at once, and from which cursor on.

    `pairs` are its conditions as they go into a URL, without page size and cursor.
    """

    search: Search
    pairs: tuple[tuple[str, str], ...]
    limit: int = PAGE
    cursor: str = ""

    def url(self, **more: str) -> str:
        """The query string of the same search, with `cursor` and others on top; empty ones are left out."""
        shown = [*self.pairs]
        if self.limit != PAGE:
            shown.append(("limit", str(self.limit)))
        return urlencode(shown + [(name, value) for name, value in more.items() if value])

    def get(self, name: str) -> str:
        """A condition as it was written, empty where it was not."""
        return next((value for key, value in self.pairs if key == name), "")

    def option(self, slot: str) -> str:
        """The option wanted of a slot, empty for any."""
        return self.search.slots.get(slot, "")


def read_query(told: Iterable[tuple[str, str]], *, order: Order, corrected: str = "") -> Query:
    """The query of a URL; `order` and `corrected` stand where it says nothing.

    Raises `InputError` naming the condition that cannot be used.
    """
    given: dict[str, str] = {}
    slots: dict[str, str] = {}
    for name, value in told:
        if len(value) > MAX_TEXT and name != "cursor":
            raise InputError(f"{name} has {len(value)} characters; {MAX_TEXT} are allowed")
        if name.startswith("slot.") and value:
            slots[_slot(name.removeprefix("slot."))] = value
        elif name in (*_FIELDS, "limit", "cursor"):
            given[name] = value.strip()
    given = {"order": order.value, "corrected": corrected, **given}
    pairs = [(name, given[name]) for name in _FIELDS if given.get(name)]
    if corrected and not given["corrected"]:
        pairs.append(("corrected", ""))
    pairs += [(f"slot.{name}", option) for name, option in sorted(slots.items())]
    search = Search(
        order=_one_of("order", given["order"], {one.value: one for one in Order}) or order,
        task=given.get("task") or None,
        device=given.get("device") or None,
        state=_one_of("state", given.get("state", ""), {one.value: one for one in ItemState}),
        uncertain=_one_of("uncertain", given.get("uncertain", ""), YES_NO),
        slots=slots,
        since_ns=_time("since", given.get("since", "")),
        before_ns=_time("before", given.get("before", "")),
        corrected=_one_of("corrected", given["corrected"], YES_NO),
    )
    return Query(search, tuple(pairs), _limit(given.get("limit", "")), given.get("cursor", ""))


def _one_of(name: str, text: str, known: Mapping[str, _T]) -> _T | None:
    if text and text not in known:
        raise InputError(f"{name} is {text!r}; it may be {', '.join(known)}")
    return known.get(text)


def _slot(name: str) -> str:
    if not _SLOT.fullmatch(name):
        raise InputError(f"slot {name[:MAX_TEXT]!r} is no name of a slot")
    return name


def _limit(text: str) -> int:
    if not text:
        return PAGE
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= MOST):
        raise InputError(f"limit is {text!r}; it may be 1 to {MOST}")
    return int(text)


def _time(name: str, text: str) -> int | None:
    """Nanoseconds since 1970 of `2026-01-31T12:00` in UTC; None of nothing."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InputError(f"{name} is {text!r}, which is no time such as 2026-01-31T12:00 (UTC)") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000
