"""Reviews a second of the bundled reviewer in the service's process and as 1, 2, ... local Ray replicas, interleaved.

    python benchmarks/replicas.py [--task yard] [--replicas 1 2] [--rounds 5] [--batch 16] [--batches 8]

Each round lets every variant review the same made-up items, one batch in flight a replica. On a machine with no more
cores than replicas need, more replicas gain nothing: what one sees is what the way to a replica costs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from fusion.review import Reviewer
from fusion.review.mini import MiniReviewer
from fusion.review.replicas.reviewer import RayReviewer
from fusion.types import Evidence


def rate(workers: Sequence[Reviewer], batches: Sequence[Sequence[Evidence]]) -> float:
    """Reviews a second, preparing included; every worker takes the next batch when it is free."""
    left = list(batches)

    def work(worker: Reviewer) -> None:
        while left:
            try:
                rows = left.pop()
            except IndexError:
                return
            worker.score([worker.prepare(row) for row in rows])

    began = time.perf_counter()
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(work, workers))
    return sum(map(len, batches)) / (time.perf_counter() - began)


def main() -> None:
    """Print a line a variant, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="yard")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=8)
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    here = MiniReviewer.load(arguments.task)
    fleets = [RayReviewer.load(f"[mini:{arguments.task}]?gpus=0&replicas={count}") for count in arguments.replicas]
    variants: dict[str, Sequence[Reviewer]] = {"in process": [here]}
    variants |= {f"{len(fleet.replicas())} replica(s)": fleet.replicas() for fleet in fleets}
    batches = [
        [here.example(seed) for seed in range(first, first + arguments.batch)] for first in range(arguments.batches)
    ]
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for workers in variants.values():
        rate(workers, batches[:2])
    for _ in range(arguments.rounds):
        for name, workers in variants.items():
            rates[name].append(rate(workers, batches))
    for name, found in rates.items():
        print(f"{name:>14}: {median(found):7.1f} reviews/s (of {min(found):.1f} to {max(found):.1f})")
    print(json.dumps({name: [round(one, 1) for one in found] for name, found in rates.items()}))
    for fleet in fleets:
        fleet.close()


if __name__ == "__main__":
    main()
