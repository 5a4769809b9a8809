"""The interface of a ledger. Whoever brings another storage implements it, and registers a `Sink` in `fusion.sinks`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cloud_node.ledger.values import Correction, Damaged, DeviceReport, Page, Record, Search
from cloud_node.outcome import Outcome
from fusion.types import ItemId, ItemState


class Ledger(Protocol):
    """Where outcomes are kept. Called from one thread. Raises `SpoolError` when it cannot be read or written, its
    kind `AwayError` when the storage as a whole is not to be had.

    A call that failed stored all or nothing of what it was given, and may be made again: nothing is stored twice.
    """

    def find(self, items: Sequence[ItemId]) -> list[Outcome | None]:
        """What is stored about each item, without evidence."""

    def store(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Store all in one durable transaction; of an item that is already there, the stored outcome is returned."""

    def store_reports(self, reports: Sequence[DeviceReport]) -> None:
        """Keep devices' totals in one durable transaction; an earlier report of the same epoch is replaced."""

    def probe(self) -> None:
        """Write durably, and leave nothing: where that fails, so would a `store`."""

    def record_correction(self, correction: Correction) -> None:
        """Keep what a person says, after what was said before; the very same correction is kept once.

        Raises `InputError` when the item has no outcome.
        """

    def last_acknowledged(self, device: str, epoch: str) -> ItemId | None:
        """The highest item of a device's epoch that has an outcome."""

    def reader(self) -> LedgerReader:
        """A connection of its own to what is stored; whoever asks closes it."""

    def close(self) -> None:
        """Let go of the storage."""


class LedgerReader(Protocol):
    """Looks at a ledger while another thread or process writes it, and may be shared by threads.

    Every call sees what is committed, in a short transaction that keeps no writer waiting. Digests are checked: a row
    that is not what was stored raises `SpoolError` (`search` and `outcomes` give it as `Damaged`), as does storage that
    cannot be read.
    """

    def one(self, item: ItemId, *, with_evidence: bool = False) -> Record | None:
        """An item's outcome and the correction that counts."""

    def search(self, search: Search, *, limit: int = 50, cursor: str = "") -> Page:
        """At most `limit` outcomes, damaged ones among them, after those of the page that gave `cursor`.

        What is stored meanwhile moves nothing between pages. Raises `InputError` for a cursor of another search.
        """

    def corrections(self, item: ItemId) -> list[Correction]:
        """Everything people said about an item, in order; the last one counts."""

    def outcomes(self, *, with_evidence: bool = False) -> Iterator[Outcome | Damaged]:
        """All outcomes in the order they were stored; `undamaged` is for who can do without none."""

    def counts(self) -> dict[ItemState, int]:
        """Outcomes by state."""

    def reports(self) -> list[DeviceReport]:
        """The last report of each device's epoch."""

    def close(self) -> None:
        """Let go of the storage."""


class Sink(Protocol):
    """What an entry point of `fusion.sinks` names; `argument` is what follows the scheme in a ledger's name."""

    def open(self, argument: str, *, keep_evidence: bool) -> Ledger:
        """Open or create; raises `SpoolError` when it cannot be."""

    def open_reader(self, argument: str, *, upgrade: bool = False) -> LedgerReader:
        """Open what exists; raises `SpoolError` when it cannot be, `OlderError` when it has to be brought up to date
        first, which is done with `upgrade`.
        """
