"""What a grid saves: N variants in one pass against N runs of one, in processor time, and that the results are equal.

    python benchmarks/replay_grid.py [--recording FILE.mcap] [--variants 8] [--out out/replay_grid.json]

Each way is a process of its own that has its models loaded before the clock starts; N commands would load them N times.
Variants differ in what is screened and sent, so the models see the same for all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from replay.live.demo import bundled_recording
from replay.outputs import collect
from replay.results.file import write_results
from replay.running.folder import RunFolder
from replay.running.models import LoadedModels
from replay.running.plan import Plan, Variant
from replay.running.player import play
from replay.sources.jobs import jobs_of
from replay.whatif.product import named_product

AXES = {
    "edge.screening.budget_bytes_per_s": [0, 8000, 4000, 2000],
    "edge.screening.uncertain_below": [0.5, 0.3, 0.7, 0.9],
}


def main() -> None:
    """Run the benchmark, or one way of it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", default="")
    parser.add_argument("--task", default="yard")
    parser.add_argument("--variants", type=int, default=8, help="1..16")
    parser.add_argument("--out", type=Path, default=Path("out/replay_grid.json"))
    parser.add_argument("--way", choices=("common", "alone"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.recording = options.recording or str(bundled_recording(options.task))
    if options.way:
        print(json.dumps(one_way(options)))
        return
    command = [sys.executable, __file__, "--recording", options.recording, "--task", options.task]
    found = {}
    for way in ("common", "alone"):
        told = subprocess.run(
            [*command, "--variants", str(options.variants), "--way", way], check=True, stdout=subprocess.PIPE, text=True
        )
        found[way] = json.loads(told.stdout.splitlines()[-1])
    report = summed_up(options, found)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(f"| {name} | {value} |" for name, value in report.items()))


def one_way(options: argparse.Namespace) -> dict[str, Any]:
    """All variants in one pass, or each in one of its own with nothing remembered: what it took, and the digests."""
    variants = tuple(named_product(AXES)[: options.variants])
    plan = Plan(options.task, jobs_of([options.recording]), variants)
    models = LoadedModels()
    (job,) = plan.jobs
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        play(Plan(options.task, plan.jobs, (Variant(name="warm-up"),)), job, out, models, quiet=True)
        models.verdicts.forget()
        asked, wall, cpu = models.verdicts.asked, time.perf_counter(), time.process_time()
        if options.way == "common":
            play(plan, job, out, models, quiet=True)
        else:
            for variant in variants:
                models.verdicts.forget()
                play(Plan(options.task, plan.jobs, (variant,)), job, out, models, quiet=True)
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        results = [collect(plan.task, plan.jobs, one, RunFolder.of(out, one)) for one in variants]
        digests = [write_results(one, out / "results.json") for one in results]
    edge = [one.summary["edge_ms_p50"] for one in results]
    return took | {"digests": digests, "reviews_asked": models.verdicts.asked - asked, "edge_ms_p50": edge}


def summed_up(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """Both ways side by side."""
    common, alone = found["common"], found["alone"]
    return {
        "recording": Path(options.recording).name,
        "variants": options.variants,
        "equal results": common["digests"] == alone["digests"],
        "one pass, CPU s": round(common["cpu_s"], 2),
        "runs of their own, CPU s": round(alone["cpu_s"], 2),
        "times less CPU": round(alone["cpu_s"] / common["cpu_s"], 2),
        "one pass, wall s": round(common["wall_s"], 2),
        "runs of their own, wall s": round(alone["wall_s"], 2),
        "reviews asked for, one pass": common["reviews_asked"],
        "reviews asked for, runs of their own": alone["reviews_asked"],
        "edge ms, median of each variant, one pass": common["edge_ms_p50"],
        "edge ms, median of each variant, runs of their own": alone["edge_ms_p50"],
    }


if __name__ == "__main__":
    main()
