"""Our service against what else could answer the same questions with the same weights on the same machine.

    python benchmarks/serving_rivals.py [--part all|users|inside] [--quick] [--out serving.json]

Part `users`, as a pretrained model is run today: (a) `generate` + JSON a request at a time, (b) `transformers serve`
over HTTP, (c) vLLM where it is installed, against (g) `cloud-node serve`; closed loop, no deadline.

Part `inside`, our own scorer within other servers: (d) collect N or wait (our stream, no ledger), (e) LitServe, (f) Ray
Serve, against (g). Load comes from a process of its own: Poisson arrivals of many devices at stated shares of OUR
measured capacity, never held up by a slow server; latency counts from the moment an item was due. All have one
deadline: an answer after it is lost. Batch size and waiting time are the same for all. Each rival runs as it comes, and
above capacity also with its queue bounded by hand to what deadline and capacity allow, where it has a knob for it.
Servers take turns, one at a time; rounds are pooled. Only (g) keeps a ledger: it commits every answer to disk first.

The model is of a real family (Qwen2.5-VL) with random weights: 32 visual tokens (maps, fused tokens, opinion), four
slots of up to seven options, and as many text tokens as its tokenizer writes them with; `--reviewer mini:yard` takes
the bundled one instead (part `inside` alone).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rivals import checkpoint, process, tables, users
from rivals.checkpoint import Checkpoint
from rivals.inside import RIVALS, Contest, Inside, Level
from rivals.process import ServerError
from tqdm import tqdm


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "users", "inside"), default="all")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work, not how fast")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a run")
    parser.add_argument("--levels", type=float, nargs="+", default=[50, 90, 120, 200], help="percent of capacity")
    parser.add_argument("--hot", type=float, default=0.3, help="share of one device in one more run at the last level")
    parser.add_argument("--deadline-ms", type=float, default=500.0)
    parser.add_argument("--margin-ms", type=float, default=20.0, help="what our devices keep for the way back")
    parser.add_argument("--devices", type=int, default=24)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--wait-ms", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1, help="of a server's arithmetic")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--reviewer", default="", help="another reviewer by name")
    parser.add_argument("--only", nargs="*", default=[], help="letters of servers, such as d g")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.levels = 1, 2.0, [90, 200]
    return options


def run_users(options: argparse.Namespace, folder: Path, made: Checkpoint) -> list[dict[str, Any]]:
    """A row a way; a way's rate is the median of its rounds."""
    part = users.Users(folder, made, options.seconds, options.batch, options.threads)
    got: dict[str, list[dict[str, Any]]] = {name: [] for name in users.names()}
    turns = [name for number in range(options.rounds) for name in list(got)[:: 1 if number % 2 == 0 else -1]]
    for name in tqdm(turns, unit="run", disable=None):
        try:
            got[name].append(part.measure(name))
        except ServerError as error:
            print(f"SKIPPED {name}: {error}", file=sys.stderr)
    return [{"way": name, **_middle(rounds)} for name, rounds in got.items() if rounds]


def _middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {key: [one[key] for one in rounds if one[key] is not None] for key in rounds[0]}
    return {key: round(float(np.median(values)), 2) if values else None for key, values in columns.items()}


def run_inside(options: argparse.Namespace, folder: Path, reviewer: str, blobs: str) -> dict[str, Any]:
    """Everything that part two tells."""
    contest = Contest(
        reviewer=reviewer,
        blobs=blobs,
        devices=options.devices,
        deadline_s=options.deadline_ms / 1e3,
        seconds=options.seconds,
        capacity_seconds=min(4.0, options.seconds),
        batch=options.batch,
        wait_ms=options.wait_ms,
        threads=options.threads,
        margin_s=options.margin_ms / 1e3,
    )
    running = Inside(folder, contest)
    levels = [Level(percent) for percent in options.levels]
    levels += [Level(options.levels[-1], options.hot)] if options.hot else []
    chosen = [rival for rival in RIVALS if not options.only or rival.name[1] in options.only]
    turns = [(n, rival) for n in range(options.rounds) for rival in chosen[:: 1 if n % 2 == 0 else -1]]
    for number, rival in tqdm(turns, unit="server", disable=None):
        asked = [level for level in levels if level.percent > 100] if rival.by_hand else levels
        try:
            running.round(rival, asked, number)
        except ServerError as error:
            print(f"SKIPPED {rival.name}: {error}", file=sys.stderr)
    rows = running.books()
    return {
        "contest": {**asdict(contest), "capacity_s": running.capacity_s},
        "capacities": running.capacities,
        "rows": rows,
        "against_best": tables.against_best(rows),
        "ledger": running.audits,
        "worst_lag_ms": max(running.lags_ms, default=None),
    }


def main() -> None:
    """Measure, print tables, write JSON."""
    process.end_servers_when_terminated()
    options = parse()
    result: dict[str, Any] = {"options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.reviewer:
            reviewer, evidence = options.reviewer, checkpoint.examples_of(options.reviewer)
        else:
            made = checkpoint.build(folder, options.hidden, options.layers)
            told = f"{made.visual} visual + {made.text} text tokens behind {made.shared} shared"
            print(f"{checkpoint.FAMILY}, {made.parameters / 1e6:.1f} M parameters, {told}, {options.threads} thread(s)")
            reviewer, evidence = made.reviewer, [checkpoint.feature_evidence(n) for n in range(checkpoint.EXAMPLES)]
            result["model"] = {k: str(v) for k, v in asdict(made).items()}
            if options.part != "inside":
                result["users"] = run_users(options, folder, made)
                print(tables.users_table(result["users"]))
        if options.part != "users":
            blobs = checkpoint.write_blobs(folder / "blobs", evidence)
            told_inside = result["inside"] = run_inside(options, folder, reviewer, blobs)
            print_inside(told_inside)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


def print_inside(told: dict[str, Any]) -> None:
    """The tables of part two."""
    capacities = {name: [round(one, 1) for one in rounds] for name, rounds in told["capacities"].items()}
    print(f"capacity, reviews/s in a closed loop, by round: {capacities}")
    print(tables.inside_table(told["rows"]))
    for row in told["against_best"]:
        print(f"{row['level']}: {row['ratio']} of {row['best']}; p99 {row['p99_ms']} against {row['best_p99_ms']} ms")
    print(f"our ledger against the devices' books: {json.dumps(told['ledger'])}")
    print(f"the generator was never more than {told['worst_lag_ms']:.0f} ms behind its schedule")


if __name__ == "__main__":
    main()
