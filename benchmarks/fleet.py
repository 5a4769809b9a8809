"""One service process and its share of a fleet, simulated: what is answered, what waits, what is lost, and when.

    python benchmarks/fleet.py [--node gpu] [--seconds 300] [--lost-at 60 --event-at 200] [--picture FILE] [--json FILE]
    python benchmarks/fleet.py --table          devices to processes, GPUs, network and database, by arithmetic

Discrete events. Batcher, cost model and admission are the service's own objects; how long the event loop, a batch and
a commit take is given: measured by the project's benchmarks, or estimated where `--node` says so. A million devices are
not simulated one by one: a process serves its own devices and shares nothing with the next but a ledger's server, so
one process is simulated exactly and multiplied. Shards of different seeds are alike; a test says so.

`--measured FILE` takes the event loop's time from the JSON that `benchmarks/cloud_stream.py` prints.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from crowd.arithmetic import need, table
from crowd.report import HEAD, draw_picture, row, write_json
from crowd.settings import NODES, POSTGRESQL, SQLITE, Fleet, Node, Trouble
from crowd.simulation import Simulation
from tqdm import tqdm

USUAL = Fleet()
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
PROCESSES_A_GPU = 3


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", choices=sorted(NODES), default="gpu")
    parser.add_argument("--measured", type=Path, help="what benchmarks/cloud_stream.py printed")
    parser.add_argument("--loop-ms", type=float, help="event loop's time for an item")
    parser.add_argument("--batch-ms", type=float, help="a batch's time without its tokens")
    parser.add_argument("--token-ms", type=float, help="a token's time in a batch")
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--loads", type=float, nargs="+", default=[50, 90, 120, 200], help="percent of capacity")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items-per-hour", type=float, default=USUAL.items_per_hour, help="of a device, on average")
    parser.add_argument("--sigma", type=float, default=USUAL.sigma, help="spread of rates over devices, log-normal")
    parser.add_argument("--day-swing", type=float, default=0.0, help="0..1, how far the day's rate swings")
    parser.add_argument("--day-s", type=float, default=USUAL.day_s, help="length of a day")
    parser.add_argument("--deadline", type=float, default=USUAL.deadline_s, help="seconds from birth; 0 is never")
    parser.add_argument("--spool", type=int, default=USUAL.spool_items, help="items that a device keeps")
    parser.add_argument("--drop", choices=("value", "oldest"), default="value", help="what a full spool sheds")
    parser.add_argument("--event-at", type=float, help="when a fifth of a region's devices see the same")
    parser.add_argument("--lost-at", type=float, help="when a quarter of the devices loses its link")
    parser.add_argument("--lost-for", type=float, default=60.0, help="seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--table", action="store_true", help="arithmetic instead of a simulation")
    return parser.parse_args()


def node_of(arguments: argparse.Namespace) -> Node:
    """What serves, by name, with what was measured elsewhere put in."""
    node = replace(NODES[arguments.node], ledger=SQLITE if arguments.ledger == "sqlite" else POSTGRESQL)
    if arguments.measured:
        node = replace(node, loop_ms=json.loads(arguments.measured.read_text())["service_cpu_ms_per_review"])
    base = node.review.base_ms if arguments.batch_ms is None else arguments.batch_ms
    each = node.review.each_ms if arguments.token_ms is None else arguments.token_ms
    loop = node.loop_ms if arguments.loop_ms is None else arguments.loop_ms
    return replace(node, loop_ms=loop, review=replace(node.review, base_ms=base, each_ms=each))


def fleet_of(arguments: argparse.Namespace) -> Fleet:
    """The devices."""
    return Fleet(
        items_per_hour=arguments.items_per_hour,
        sigma=arguments.sigma,
        day_swing=arguments.day_swing,
        day_s=arguments.day_s,
        spool_items=arguments.spool,
        drop=arguments.drop,
        deadline_s=arguments.deadline,
    )


def main() -> None:
    """Print a table."""
    arguments = parse()
    node, fleet = node_of(arguments), fleet_of(arguments)
    if arguments.table:
        print(table([need(size, fleet, node, PROCESSES_A_GPU) for size in SIZES]))
        return
    trouble = Trouble(event_s=arguments.event_at, lost_s=arguments.lost_at, lost_for_s=arguments.lost_for)
    stages = ", ".join(f"{name} {rate:,.0f}" for name, rate in node.stages(fleet.items_per_hour).items())
    print(f"{node.name} ({node.measured}); reviews/s at most: {stages}")
    print(HEAD)
    outcomes = []
    for load in tqdm(arguments.loads, disable=None):
        outcomes.append(Simulation(node, fleet, trouble, load / 100, arguments.seconds, arguments.seed).run())
        print(row(outcomes[-1]), flush=True)
    if arguments.json:
        write_json(arguments.json, outcomes)
    if arguments.picture:
        draw_picture(arguments.picture, outcomes, f"one process, {node.measured}")


if __name__ == "__main__":
    main()
