"""What a ledger keeps beside outcomes, and how it is asked. Times are the service's wall clock in nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cloud_node.outcome import Outcome
from fusion.errors import InputError, SpoolError
from fusion.types import ItemId, ItemState, LedgerCounts


class AwayError(SpoolError):
    """The storage as a whole cannot be used now: what is tried next, or in parts, would fail alike."""


class OlderError(SpoolError):
    """The ledger `shown` is of an earlier version's schema, and was not to be brought up to date."""

    def __init__(self, shown: str, version: int) -> None:
        super().__init__(
            f"ledger {shown}: is of schema {version}; a service brings it up to date when it opens it, and so does "
            "--upgrade of `cloud-node console` or `explain`; earlier programs do not open it afterwards"
        )
        self.version = version


UNSURE = "unsure"
"""What a person answers to a slot that cannot be told."""


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A device's totals as it last told them; `received_ns` is when."""

    device: str
    epoch: str
    received_ns: int
    counts: LedgerCounts


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person says an item is: an option a slot, or `UNSURE`.

    Raises `InputError` when it says nothing, or what cannot be stored.
    """

    item: ItemId
    author: str
    at_ns: int
    answers: Mapping[str, str]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.author or not self.answers or not all(self.answers.values()):
            raise InputError(f"a correction of {self.item} needs an author and an answer in every slot it names")
        _check_time(self.at_ns)
        _check_text(self.author, self.note, *self.answers, *self.answers.values())


@dataclass(frozen=True, slots=True)
class Record:
    """An outcome and the correction that counts: the last one, None while nobody corrected it."""

    outcome: Outcome
    correction: Correction | None = None


@dataclass(frozen=True, slots=True)
class Damaged:
    """An outcome that is not what was stored: its item as the row has it, and a line that says what is wrong."""

    item: str
    line: str


class Order(StrEnum):
    """How found outcomes are sorted; equals by when they were stored (in PostgreSQL, of one group, by item)."""

    NEWEST = "newest"
    """Answered last comes first."""

    VALUE = "value"
    """What the device held most worth a review comes first; outcomes of unread evidence count as 0."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which outcomes: those that meet every condition that is given.

    `slots` names the option the verdict gave a slot (not a correction's); `since_ns` (inclusive) and `before_ns`
    (exclusive) bound when an outcome was answered. Raises `InputError` for a time or text that no outcome can have.
    """

    order: Order = Order.NEWEST
    task: str | None = None
    device: str | None = None
    state: ItemState | None = None
    uncertain: bool | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    since_ns: int | None = None
    before_ns: int | None = None
    corrected: bool | None = None

    def __post_init__(self) -> None:
        for time_ns in (self.since_ns, self.before_ns):
            _check_time(time_ns or 0)
        _check_text(self.task or "", self.device or "", *self.slots, *self.slots.values())


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what a search found. `cursor` asks for the next page, and is empty on the last one.

    `damaged` are the outcomes of this page that cannot be read; they are not among `records`.
    """

    records: tuple[Record, ...]
    cursor: str
    damaged: tuple[Damaged, ...] = ()


def _check_time(time_ns: int) -> None:
    if not 0 <= time_ns < 2**63:
        raise InputError(f"{time_ns} is no time in nanoseconds since 1970")


def _check_text(*texts: str) -> None:
    """A NUL is no text to PostgreSQL, half a surrogate pair to neither database."""
    for text in texts:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"{text!r} holds characters that cannot be stored")
