"""How latency grows with the number of devices, in the form NVIDIA publishes for VSS: average and P99 by streams.

    python benchmarks/saturation.py [--rate 2] [--quick] [--out FILE.json] [--picture docs/pictures/saturation.png]

Each device has a stream of its own and sends `--rate` items a second at even distances, whether it is answered or not.
The service is a real process with its defaults for admission (a bounded queue, a window a device); latency counts from
the moment an item was due to its committed verdict. Two curves: items without a deadline, where the queue fills until
items are refused, and items with one, where what cannot be made is told so at once. The load is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rivals import checkpoint, ours, process, tables
from rivals.books import Books
from rivals.generator import fates_of
from rivals.plan import Plan
from tqdm import tqdm

STREAMS = (1, 5, 10, 25, 50, 75, 100, 150, 200)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--rate", type=float, default=2.0, help="items a second of each device")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a run")
    parser.add_argument("--deadline-ms", type=float, default=1000.0, help="of the second curve; 0 leaves it out")
    parser.add_argument("--margin-ms", type=float, default=20.0, help="what devices keep of it for the way back")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--reviewer", default="", help="another reviewer by name, such as mini:yard")
    parser.add_argument("--quick", action="store_true", help="three short runs: does it work, not how fast")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.streams, options.seconds = [1, 25, 200], 2.0
    return options


def measure(options: argparse.Namespace, address: str, blobs: str, streams: int, deadline_s: float) -> dict[str, Any]:
    """One run."""
    plan = Plan(
        protocol="stream",
        address=address,
        blobs=blobs,
        devices=streams,
        seconds=options.seconds,
        pattern="periodic",
        rate_s=options.rate,
        deadline_s=deadline_s or None,
        margin_s=options.margin_ms / 1e3,
        grace_s=15.0,
        seed=streams,
    )
    told = process.run(plan)
    books = Books.of(fates_of(told), options.seconds, plan.deadline_s)
    return {"streams": streams, "deadline_ms": round(deadline_s * 1e3), **books.as_json(), "lag_ms": told.lag_ms}


def run(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row a number of streams and deadline."""
    if options.reviewer:
        reviewer, evidence = options.reviewer, checkpoint.examples_of(options.reviewer)
    else:
        reviewer = checkpoint.build(folder, options.hidden, options.layers).reviewer
        evidence = [checkpoint.feature_evidence(seed) for seed in range(checkpoint.EXAMPLES)]
    blobs = checkpoint.write_blobs(folder / "blobs", evidence)
    sets = [f"threads={options.threads}", f"batch.items={options.batch}"]
    command = ours.command(reviewer, folder / "ledger.db", process.free_port(), sets)
    deadlines = [0.0, options.deadline_ms / 1e3] if options.deadline_ms else [0.0]
    with process.server(command, folder / "cloud.log", options.threads) as address:
        measure(options, address, blobs, 1, 0.0)  # the first connection's costs
        turns = [(streams, deadline_s) for streams in options.streams for deadline_s in deadlines]
        return [measure(options, address, blobs, *turn) for turn in tqdm(turns, unit="run", disable=None)]


def table(rows: list[dict[str, Any]]) -> str:
    """Of one deadline after the other."""
    lines = [
        "| streams | deadline | answered in time/s | average s | P99 s | refused | expired | late |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["deadline_ms"], row["streams"])):
        deadline = f"{row['deadline_ms']} ms" if row["deadline_ms"] else "none"
        seconds = [tables.number(row[key]) for key in ("average_ms", "p99_ms")]
        told = [f"{float(one) / 1e3:.2f}" if one != "-" else one for one in seconds]
        cells = [row["streams"], deadline, f"{row['goodput_s']:.0f}", *told]
        cells += [row["refused"], row["expired"], row["late"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def draw(path: Path, rows: list[dict[str, Any]], rate: float) -> None:
    """Average and P99 by streams, a line a deadline."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.4), dpi=100)
    for deadline, colour in zip(sorted({row["deadline_ms"] for row in rows}), ("C3", "C0"), strict=False):
        told = [row for row in rows if row["deadline_ms"] == deadline and row["average_ms"] is not None]
        name = f"deadline {deadline} ms" if deadline else "no deadline"
        for key, style, what in (("average_ms", "-", "average"), ("p99_ms", "--", "P99")):
            axes.plot(
                [r["streams"] for r in told], [r[key] / 1e3 for r in told], style + "o", color=colour, ms=3,
                label=f"{what}, {name}",
            )  # fmt: skip
    axes.set(xlabel=f"streams of {rate:g} items a second", ylabel="due to verdict, seconds", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Measure, print a table, write JSON and a picture."""
    process.end_servers_when_terminated()
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        rows = run(options, Path(scratch))
    print(table(rows))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.picture:
        draw(options.picture, rows, options.rate)


if __name__ == "__main__":
    main()
