"""The console on a ledger without the service: it looks, and opens the ledger for each correction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_node.console.backing import Backing
from cloud_node.console.profiles import bundled_profiles
from cloud_node.ledger import Correction, open_ledger, open_reader
from fusion.task import Task, bundled_tasks


@contextmanager
def backing_of(ledger: str, *, upgrade: bool = False) -> Iterator[Backing]:
    """A backing of the ledger of that name. Raises `SpoolError` when it is not there or cannot be read, or has to be
    brought up to date first and `upgrade` is not set.

    While a service holds a SQLite ledger, corrections are refused with a line that says so.
    """
    reader = open_reader(ledger, upgrade=upgrade)

    def correct(correction: Correction) -> None:
        opened = open_ledger(ledger)
        try:
            opened.record_correction(correction)
        finally:
            opened.close()

    one_at_a_time = asyncio.Lock()

    async def keep(correction: Correction) -> None:
        async with one_at_a_time:
            await asyncio.to_thread(correct, correction)

    try:
        tasks = {name: Task.load(name) for name in bundled_tasks()}
        yield Backing(reader, keep, tasks=tasks, profiles=bundled_profiles())
    finally:
        reader.close()
