"""(g) `cloud-node serve`, and what its ledger and its metrics say about a run."""

from __future__ import annotations

import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_node.ledger import open_reader, undamaged
from fusion.types import ItemState
from rivals.books import End, Fate


def command(reviewer: str, ledger: Path, metrics: int, sets: Sequence[str]) -> list[str]:
    """The command line; pixels are never asked for."""
    given = ["listen=127.0.0.1:0", f'reviewers=["{reviewer}"]', f"ledger={ledger}", "review.pixel_timeout_ms=0"]
    given += [f"metrics=127.0.0.1:{metrics}", *sets]
    return [sys.executable, "-m", "cloud_node.cli", "serve", *(part for one in given for part in ("--set", one))]


@dataclass(frozen=True, slots=True)
class Audit:
    """The ledger's rows of a run, by state, against what devices were told.

    `contradicted` items are told one thing and stored as another; `unknown` rows are of no item that was sent.
    `refused_stored` is how many retriably refused items have a row (none should: they may come again), and
    `without_row` how many items that were not refused have none.
    """

    rows: dict[str, int]
    contradicted: int
    unknown: int
    refused_stored: int
    without_row: int

    @property
    def adds_up(self) -> bool:
        """Whether both books agree in everything."""
        return not (self.contradicted or self.unknown or self.refused_stored or self.without_row)


_STORED_AS = {End.ANSWERED: ItemState.REVIEWED, End.EXPIRED: ItemState.EXPIRED}


def audit(stored: dict[tuple[str, int], ItemState], fates: Sequence[Fate], names: Sequence[str]) -> Audit:
    """Compare `stored` (by device and sequence, of one epoch) with `fates`; device n of them is called `names[n]`."""
    told = {(names[fate.device], fate.sequence): fate.end for fate in fates}
    wrong = sum(key in stored and stored[key] is not _STORED_AS[end] for key, end in told.items() if end in _STORED_AS)
    refused = [key for key, end in told.items() if end is End.REFUSED]
    return Audit(
        rows=dict(Counter(state.value for state in stored.values())),
        contradicted=wrong,
        unknown=sum(key not in told for key in stored),
        refused_stored=sum(key in stored for key in refused),
        without_row=sum(key not in stored for key, end in told.items() if end is not End.REFUSED),
    )


def stored_of(ledger: Path, epochs: Sequence[str]) -> dict[str, dict[tuple[str, int], ItemState]]:
    """States of all rows by epoch."""
    found: dict[str, dict[tuple[str, int], ItemState]] = {epoch: {} for epoch in epochs}
    reader = open_reader(str(ledger))
    try:
        for outcome in undamaged(reader.outcomes()):
            sample = outcome.item.sample
            if sample.epoch in found:
                found[sample.epoch][sample.device, sample.sequence] = outcome.state
    finally:
        reader.close()
    return found


def submission_ends(metrics: int) -> dict[str, float]:
    """How submissions ended so far, by the service's own count."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    name = 'fusion_cloud_submission_ends_total{end="'
    return {one.split('"')[1]: float(one.split()[-1]) for one in lines if one.startswith(name)}
