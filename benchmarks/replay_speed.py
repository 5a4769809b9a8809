"""How fast recordings are run: against real time, against decoding and models alone, and by several workers.

    python benchmarks/replay_speed.py [--recording FILE] [--rounds 5] [--jobs 4] [--without ray] [--json FILE]

Two tables. *One pass*: a recording run in this process, models loaded before, in turns with the bare cost: decoding its
readings, and calling the device's engines and the reviewer on the very inputs that the run gave them. The ratio of bare
to run is what the rest (synchronizing, tracking, screening, coding, databases) leaves. *Whole runs*: `--jobs` copies of
the recording, in a process a way, from the first import to the last recording done; reports are timed apart. What is
told are medians of the rounds, ratios of the same round.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "fusion/recordings/yard.mcap"
WAYS = {
    "1 worker": ["--workers", "1"],
    "2 workers": ["--workers", "2"],
    "1 worker, 1 engine thread": ["--workers", "1", "--set", "edge.engine.threads=1"],
    "2 workers, 1 engine thread": ["--workers", "2", "--set", "edge.engine.threads=1"],
    "1 worker on Ray": ["--workers", "1", "--engine", "ray"],
    "2 workers on Ray": ["--workers", "2", "--engine", "ray"],
}
FIRST = "1 worker"
AGAINST = {"2 workers on Ray": "2 workers", "2 workers, 1 engine thread": "1 worker, 1 engine thread"}
ONLY_RUN = """
import sys, time
began = time.perf_counter()
from replay import cli
from replay.running import run as running
real = running.run
def timed(*words, **named):
    failures = real(*words, **named)
    print(f"run {time.perf_counter() - began:.3f}", flush=True)
    return failures
running.run = timed
code = cli.main(sys.argv[1:])
print(f"all {time.perf_counter() - began:.3f}")
sys.exit(code)
"""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, default=RECORDING)
    parser.add_argument("--task", default="yard")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--without", nargs="*", default=[], help="leave out ways with this word, or 'pass', or 'whole'")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="replay-speed-") as folder:
        if "pass" not in arguments.without:
            told["pass"] = one_pass(arguments.task, arguments.recording, Path(folder), arguments.rounds)
        if "whole" not in arguments.without:
            left_out = arguments.without
            ways = {name: way for name, way in WAYS.items() if not any(word in name.lower() for word in left_out)}
            told["whole"] = whole_runs(arguments, ways, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


@dataclass(slots=True)
class Calls:
    """Every call of the models in one run, to be made again without the run."""

    made: list[tuple[Callable[..., object], object, tuple[Any, ...]]] = field(default_factory=list)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Note the calls of engines and reviewers meanwhile."""
        from fusion.engines.ort import OnnxRuntimeEngine
        from fusion.engines.ov import OpenVinoEngine
        from fusion.review.mini import MiniReviewer

        places = ((OpenVinoEngine, "run"), (OnnxRuntimeEngine, "run"), (MiniReviewer, "score"))
        patches = [patch.object(kind, name, self._noting(getattr(kind, name))) for kind, name in places]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()

    def _noting(self, real: Callable[..., object]) -> Callable[..., object]:
        def noted(model: object, *given: Any) -> object:
            self.made.append((real, model, given))
            return real(model, *given)

        return noted

    def again(self) -> None:
        """Make them all."""
        for real, model, given in self.made:
            real(model, *given)


def one_pass(task_name: str, recording: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Run and bare cost in turns."""
    from replay.outputs import collect, openers, write_outputs
    from replay.running.folder import RunFolder
    from replay.running.models import LoadedModels
    from replay.running.plan import Plan, Variant
    from replay.running.stamp import Stamps
    from replay.running.workers.work import Work, do
    from replay.sources.jobs import jobs_of, open_job

    variant = Variant()
    plan = Plan(task_name, jobs_of([str(recording)]), (variant,))
    (job,), out, models, calls = plan.jobs, folder / "pass", LoadedModels(), Calls()
    work = Work(plan, out, {(job.name, variant.name): Stamps(plan).of(job, variant)})
    with calls.kept():
        do(work, job, models)
    seconds = open_job(job, plan.task).info().duration_ns / 1e9
    parts: dict[str, list[float]] = {"run": [], "decoding": [], "models": [], "gathering and report": []}
    for _ in range(rounds):
        parts["run"].append(timed(lambda: do(work, job, models)))
        parts["decoding"].append(timed(lambda: drain(open_job(job, plan.task).readings())))
        parts["models"].append(timed(calls.again))
    results = collect(plan.task, plan.jobs, variant, RunFolder.of(out, variant))
    opened = openers(plan.task, plan.jobs)
    reported = timed(lambda: collect(plan.task, plan.jobs, variant, RunFolder.of(out, variant)))
    with redirect_stdout(io.StringIO()):
        parts["gathering and report"].append(reported + timed(lambda: write_outputs(results, opened, out, exports=())))
    ratios = [(d + m) / r for r, d, m in zip(parts["run"], parts["decoding"], parts["models"], strict=True)]
    print(f"| one pass over {seconds:.1f} s of {recording.name} | seconds | x real time |\n|---|---|---|")
    for name, found in parts.items():
        print(f"| {name} | {median(found):.2f} | {seconds / median(found):.2f} |")
    print(f"\nbare to run: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})\n")
    return {"recorded_s": seconds, "seconds": parts, "ratios": ratios}


def drain(readings: Iterator[object]) -> None:
    """Read them all."""
    for _ in readings:
        pass


def timed(action: Callable[[], object]) -> float:
    """Seconds it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def whole_runs(arguments: argparse.Namespace, ways: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Each way in turn, round after round."""
    from fusion.recording import open_recording

    recorded_s = arguments.jobs * open_recording(arguments.recording).info().duration_ns / 1e9
    copies = []
    for number in range(arguments.jobs):
        copies.append(folder / f"copy{number}{arguments.recording.suffix}")
        shutil.copyfile(arguments.recording, copies[-1])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    digests = set()
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory(dir=folder) as out:
                seconds[name].append(child(copies, arguments.task, Path(out), way))
                if "--set" not in way:
                    digests.add((Path(out) / "results.json").read_bytes())
    print(f"| {arguments.jobs} recordings, {recorded_s:.1f} s | seconds | x real time | speed-up |\n|---|---|---|---|")
    for name, found in seconds.items():
        rival = AGAINST.get(name, FIRST)
        ratio = median(a / b for a, b in zip(seconds[rival], found, strict=True)) if rival in seconds else float("nan")
        print(f"| {name} | {median(found):.1f} | {recorded_s / median(found):.2f} | {ratio:.2f} of {rival} |")
    print(f"\nresults.json of all ways and rounds: {len(digests)} different\n")
    return {"recorded_s": recorded_s, "seconds": seconds, "different_results": len(digests)}


def child(recordings: Sequence[Path], task: str, out: Path, way: Sequence[str]) -> float:
    """Seconds from the first import to the last recording done, in a process of its own."""
    words = ["run", *map(str, recordings), "--task", task, "--out", str(out), "--no-scene", "--quiet", *way]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, "-c", ONLY_RUN, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return float(next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("run ")))


if __name__ == "__main__":
    main()
