"""From devices to processes, GPUs, network and database, by multiplication."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cloud_node.journal import MAX_GROUP
from crowd.settings import PING_S, POSTGRESQL, Fleet, Node

HEADROOM = 0.7
"""The share of a capacity that is planned with."""

ROW_BYTES = 1500
"""A ledger's row without its evidence: assumed, to be measured on one's own."""

BUSY_HOUR = 2.0
"""Reviews of the busiest hour by those of the mean one: assumed."""


@dataclass(frozen=True, slots=True)
class Need:
    """What so many devices need. `reviews_s` and all that is sized by it are of the busiest hour."""

    devices: int
    reviews_s: float
    processes: int
    gpus: int
    network_mbit_s: float
    pings_s: float
    rows_s: float
    database_share: float
    gbytes_day: float


def need(devices: int, fleet: Fleet, node: Node, processes_a_gpu: int) -> Need:
    """Of so many devices, with `processes_a_gpu` of `node` on each GPU, the ledger in PostgreSQL."""
    mean = devices * fleet.items_per_hour / 3600
    busy = mean * BUSY_HOUR
    processes = math.ceil(busy / (HEADROOM * node.capacity(fleet.items_per_hour)))
    return Need(
        devices=devices,
        reviews_s=busy,
        processes=processes,
        gpus=math.ceil(processes / processes_a_gpu),
        network_mbit_s=busy * fleet.evidence_bytes * 8 / 1e6,
        pings_s=devices / PING_S,
        rows_s=busy,
        database_share=busy / (HEADROOM * 1e3 * MAX_GROUP / POSTGRESQL.ms(MAX_GROUP)),
        gbytes_day=mean * 86_400 * (fleet.evidence_bytes + ROW_BYTES) / 1e9,
    )


def table(needs: list[Need]) -> str:
    """As Markdown."""
    lines = [
        "| devices | reviews/s | processes | GPUs | evidence, Mbit/s | pings/s | PostgreSQL servers | GB a day |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {n.devices:,} | {n.reviews_s:,.3g} | {n.processes:,} | {n.gpus:,} | {n.network_mbit_s:,.3g} | "
        f"{n.pings_s:,.0f} | {n.database_share:,.2g} | {n.gbytes_day:,.3g} |"
        for n in needs
    ]
    return "\n".join(lines)
