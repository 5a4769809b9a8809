"""What a review costs threads of torch that spin or sleep while they wait for each other, with free cores and without.

    python benchmarks/waiting_threads.py [--threads 2] [--rounds 3]

The bundled yard reviewer on made-up items, a process for each measurement, the ways taking turns; beside it nothing, or
as many busy processes as there are cores. Prints medians of rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from statistics import median

WAYS = {"spin (as OpenMP does by itself)": None, "sleep (as our commands have it)": "PASSIVE"}
ROWS = 8


def main() -> None:
    """Run the benchmark, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(row_ms(arguments.threads))
        return
    cores = len(os.sched_getaffinity(0))
    print("| threads that wait | busy processes beside | ms a row |\n|---|---|---|")
    for beside in (0, cores):
        busy = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(beside)]
        for process in busy:
            process.start()
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(arguments.rounds):
            for name, policy in WAYS.items():
                found[name].append(_measured(arguments.threads, policy))
        for process in busy:
            process.kill()
        for name, values in found.items():
            print(f"| {name} | {beside} | {median(values):.1f} |", flush=True)


def row_ms(threads: int) -> float:
    """Milliseconds of a review of one row, the mean of two rounds over all rows."""
    import torch

    from fusion.review.mini import MiniReviewer

    torch.set_num_threads(threads)
    reviewer = MiniReviewer.load("yard")
    rows = [reviewer.prepare(reviewer.example(seed)) for seed in range(ROWS)]
    reviewer.score(rows[:1])
    began = time.perf_counter()
    for row in 2 * rows:
        reviewer.score([row])
    return (time.perf_counter() - began) / (2 * ROWS) * 1000


def _measured(threads: int, policy: str | None) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, __file__, "--one", "--threads", str(threads)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def _spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
