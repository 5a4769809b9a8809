"""Group commits of the review service's ledger: rows a second, and how long a commit of 1, 16 and 256 outcomes takes.

    python benchmarks/ledger.py                                        # SQLite, in a fresh file in this folder
    python benchmarks/ledger.py --ledger postgresql://user@host/db     # rows are added to that database
    python benchmarks/ledger.py --against TREE                         # another version of this repository, in turns

Every outcome has evidence of 2 KB of noise and goes into one durable transaction with its group. `find_ms` is the
look-up of a group that is stored, `cpu_ms` the processor time of a commit on this side. One line of JSON a version,
round and group size, then the ratios of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
GROUPS = (1, 16, 256)


def measure(name: str, group: int, commits: int) -> dict[str, float]:
    """Store `commits` groups into the ledger `name`, then look each up; milliseconds are of a group."""
    from cloud_node.ledger import open_ledger
    from cloud_node.outcome import Outcome, Timings
    from fusion.types import ItemId, ItemState, SampleId, SlotAnswer, Verdict, new_epoch
    from fusion.wire.convert import evidence_digest

    rng, epoch = np.random.default_rng(0), new_epoch()
    header = {
        "time_ns": 1, "track": 7, "models": {"fusion": "f1" * 16, "detector": "d1" * 16}, "image": [640, 384],
        "box": {"x1": 10.0, "y1": 20.0, "x2": 110.0, "y2": 90.0}, "value": 0.5, "reasons": ["uncertain"],
        "class_scores": dict.fromkeys(("drum", "pallet", "crate", "cone", "person", "forklift"), 0.1),
        "opinion": {"label_scores": {"drum": 0.75}, "condition_scores": {"ok": 0.5}, "asked_score": 0.25},
        "ages_ns": {"front": 0, "roof": 20_000_000, "mic": 0},
    }  # fmt: skip
    slots = {"object": SlotAnswer("drum", {"drum": 0.75, "cone": 0.25}), "condition": SlotAnswer("ok", {"ok": 1.0})}

    def outcome(sequence: int) -> Outcome:
        item, blob = ItemId(SampleId("bench", epoch, sequence), 1), rng.bytes(2048)
        verdict = Verdict(item, slots, False, ("maps", "tokens"), "mini:yard", "ab" * 32)
        told = {**header, "value": float(rng.random())}
        timings = Timings(time.time_ns(), time.time_ns(), 3, 4, 5, 6)
        return Outcome(
            item, ItemState.REVIEWED, evidence_digest(blob), verdict, "", "yard", "ef" * 32, told, timings, blob
        )

    ledger = open_ledger(name)
    stores, finds, cpu_s = [], [], 0.0
    for commit in range(commits):
        outcomes = [outcome(1 + commit * group + k) for k in range(group)]
        began, began_cpu = time.perf_counter(), time.process_time()
        ledger.store(outcomes)
        stores.append(time.perf_counter() - began)
        cpu_s += time.process_time() - began_cpu
        began = time.perf_counter()
        ledger.find([one.item for one in outcomes])
        finds.append(time.perf_counter() - began)
    ledger.close()
    p50, p99 = np.percentile(np.array(stores) * 1e3, (50, 99))
    told = {
        "rows_per_s": commits * group / sum(stores),
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_ms": cpu_s / commits * 1e3,
        "find_ms": np.median(finds) * 1e3,
    }
    return {name: round(float(number), 3) for name, number in told.items()}


def in_tree(tree: Path, arguments: argparse.Namespace, group: int) -> dict[str, float]:
    """`measure` in a process of its own, with the code of `tree`."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        name = arguments.ledger or f"{folder}/ledger.db"
        commits = max(20, arguments.rows // group // (8 if group == 1 else 1))
        command = [sys.executable, __file__, "--one", str(group), str(commits), "--ledger", name]
        paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, env=paths, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure each version in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", default="", help="as in cloud.toml; default: a fresh SQLite file a measurement")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where fresh files lie")
    parser.add_argument("--against", type=Path, help="the root of another version")
    parser.add_argument("--rows", type=int, default=8192, help="rows a measurement; an eighth for groups of one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, nargs=2, metavar=("GROUP", "COMMITS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.ledger, *arguments.one)))
        return
    trees = {"this": ROOT} | ({"other": arguments.against.resolve()} if arguments.against else {})
    for group in GROUPS:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for turn in range(arguments.rounds):
            for name, tree in trees.items():
                found = in_tree(tree, arguments, group)
                rounds[name].append(found)
                print(json.dumps({"version": name, "group": group, "round": turn + 1, **found}), flush=True)
        if "other" in rounds:
            this, other = ({k: float(np.median([r[k] for r in rounds[v]])) for k in found} for v in ("this", "other"))
            ratios = {f"{key}, this over other": round(this[key] / other[key], 3) for key in found}
            print(json.dumps({"group": group, **ratios}), flush=True)


if __name__ == "__main__":
    main()
