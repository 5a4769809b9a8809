"""A learned bottleneck against the principal axes it begins with: bits of evidence, and what reviewers make of them.

    python benchmarks/bottleneck.py [--data DEEPPCB] [--rate-weights 1e-4 3e-4 1e-3] [--seeds 3] [--epochs 2]

Every arm begins with the bundled trunk and reviewer and is trained by the recipe of `fusion train bottleneck`, the
reviewer along with it; in the arm `axes` the projections stay as they are and only the reviewer learns, for as long and
on the same items. Asked are the items of the test split that the device would escalate, at the finest and the coarsest
rate of evidence: verdicts right, log-loss (mean over slots of -ln of the truth's probability), and bits of an item's
codes by tables counted on the training items' codes. Means over seeds, and differences
from `axes` with 95 % intervals (paired bootstrap over pictures of the mean over seeds). A run that is done is not
trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fusion.codec import RATES, Profile
from fusion.evaluation.bootstrap import Interval, mean_interval
from fusion.evaluation.reviewer import escalated_rows
from fusion.review.checkpoint import load_reviewer_files
from fusion.task import Task
from fusion.training.bottleneck.cells import CellItems, build_cells
from fusion.training.bottleneck.learning import BottleneckRecipe, begin, train_bottleneck
from fusion.training.bottleneck.measuring import answers, item_bits
from fusion.training.bottleneck.taps import read_taps
from fusion.training.bundle import GRAPH_NAME, bundle_folder
from fusion.training.detection.sources import image_folder
from fusion.training.review_sources import FolderMoments, held_out
from fusion.training.reviewers import PCB_VARIANTS
from fusion.types import Float64Array

AXES = "axes"


@dataclass(frozen=True, slots=True)
class Measured:
    """One seed of one arm on the test items (N,): right and log-loss at the finest and the coarsest rate, bits."""

    right: Float64Array
    loss: Float64Array
    right_least: Float64Array
    loss_least: Float64Array
    bits: Float64Array


class Bench:
    """The items, and how one arm is trained and asked."""

    def __init__(self, task: Task, data: Path, out: Path, threads: int) -> None:
        self.bundle, self.out, self.threads = bundle_folder(task, None), out, threads
        self.profile = Profile.load(self.bundle)
        self.taps = read_taps(self.bundle / GRAPH_NAME, self.profile)
        pictures = image_folder(task, data)
        learn, held = held_out(pictures.stems("trainval"))
        sources = {
            "cells-train": FolderMoments(pictures, task, learn, PCB_VARIANTS),
            "cells-val": FolderMoments(pictures, task, held),
            "cells-test": FolderMoments(pictures, task, tuple(pictures.stems("test"))),
        }
        self.items: dict[str, CellItems] = {
            name: build_cells(out / name, task, self.bundle, self.taps, source, threads=threads)
            for name, source in sources.items()
        }
        self.asked = np.flatnonzero(escalated_rows(self.items["cells-test"].columns))

    def run(self, weight: float | None, seed: int, epochs: int) -> Measured:
        """Train and ask; `weight` None leaves the projections as they are."""
        recipe = BottleneckRecipe(epochs=epochs, seed=seed, threads=self.threads, rate_weight=weight or 0.0)
        if weight is None:
            recipe = replace(recipe, learning_rate=0.0)
        learn = self.items["cells-train"]
        bottleneck = begin(learn, self.taps, [float(level.step.mean()) for level in self.profile.levels], 7)
        reviewer = load_reviewer_files(self.bundle / "reviewer")
        network, begun_with = reviewer.network, f"{self.profile.trunk_sha256} {reviewer.fingerprint}"
        folder = self.out / f"{AXES if weight is None else f'{weight:g}'}-{epochs}-seed{seed}"
        validation = self.items["cells-val"]
        train_bottleneck(learn, validation, bottleneck, network, recipe, folder, begun_with=begun_with, resume=True)
        test, figures = self.items["cells-test"], []
        truth = test.columns["truth"][self.asked]
        for rate in (0, len(RATES) - 1):
            tables = answers(bottleneck, network, test, self.asked, rate)
            figures.append(np.stack([t.argmax(1) for t in tables], 1) == truth)
            told = [-np.log(np.maximum(t[np.arange(len(t)), truth[:, i]], 1e-6)) for i, t in enumerate(tables)]
            figures.append(np.mean(told, axis=0))
        right, loss, right_least, loss_least = figures
        bits = item_bits(bottleneck, learn, test, self.asked)
        return Measured(right.all(1).astype(float), loss, right_least.all(1).astype(float), loss_least, bits)


def main() -> None:
    """Train what is not trained yet, ask and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pcb")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/deeppcb"))
    parser.add_argument("--rate-weights", type=float, nargs="+", default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/pcb/bottleneck"))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"no pictures in {arguments.data}; see --help; skipped")
        return
    torch.set_num_threads(arguments.threads)
    bench = Bench(Task.load(arguments.task), arguments.data, arguments.out, arguments.threads)
    scenes = bench.items["cells-test"].columns["scene"][bench.asked]
    print(f"{len(bench.asked)} items of {len(np.unique(scenes))} pictures, {arguments.seeds} seeds\n")
    print("| projections | bits an item | verdicts right | log-loss | at the coarsest rate: right | log-loss |")
    print("|---|---|---|---|---|---|")
    first: list[Float64Array] = []
    for weight in (None, *arguments.rate_weights):
        runs = [bench.run(weight, seed, arguments.epochs) for seed in range(arguments.seeds)]
        names = ("bits", "right", "loss", "right_least", "loss_least")
        means = [np.mean([getattr(run, name) for run in runs], axis=0) for name in names]
        first = first or means
        cells = [
            f"{mine.mean():,.{digits}f}" + (f" ({_told(mean_interval(mine - axes, scenes), digits)})" if weight else "")
            for mine, axes, digits in zip(means, first, (0, 3, 4, 3, 4), strict=True)
        ]
        print(f"| {AXES if weight is None else f'learned, {weight:g}'} | {' | '.join(cells)} |", flush=True)


def _told(gain: Interval, digits: int) -> str:
    return f"{gain.value:+,.{digits}f} [{gain.low:+,.{digits}f}, {gain.high:+,.{digits}f}]"


if __name__ == "__main__":
    main()
