"""A learned bottleneck against the principal axes it began with: bytes of evidence, and what reviewers make of them.

    fusion train bottleneck --task pcb --data DEEPPCB
    python benchmarks/bottleneck.py --data DEEPPCB [--learned runs/pcb/bottleneck/bundle ...] [--seeds 3]

Every bundle has the same detector, so both see the same items. For each, reviewers are trained from random weights by
the recipe of `fusion train reviewer`, from several seeds, on the items that its own device makes; asked are the items
of the test split that the device would escalate, without pixels, at every rate of evidence. Told are bytes of the
whole message (median), verdicts right and log-loss (mean over slots of -ln of the truth's probability) as means over
seeds, and the differences learned minus axes with 95 % intervals (paired bootstrap over pictures of the mean over
seeds). What is cached or trained already is not made again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.codec import RATES
from fusion.evaluation.bootstrap import Interval, mean_interval
from fusion.evaluation.reviewer import calibrate_reviewer, escalated, predict
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.together import combinations_of, save_together
from fusion.task import Task
from fusion.training.bundle import bundle_folder
from fusion.training.detection.sources import image_folder
from fusion.training.rate_card import MOMENTS, escalated_moments, log_losses, measure_rates
from fusion.training.review_items import Device, ItemRecipe, build_item_cache
from fusion.training.review_sources import FolderMoments, held_out
from fusion.training.reviewer import recipe_for, train_reviewer
from fusion.training.reviewers import PCB_VARIANTS
from fusion.types import Float64Array

Answers = dict[str, tuple[Float64Array, Float64Array]]
"""By rate: verdicts right (N,), 0 or 1, and log-loss (N,), means over seeds."""


class Arm:
    """One bundle: its items, its reviewers, what they answer and what evidence weighs."""

    def __init__(self, task: Task, bundle: Path, out: Path, sources: dict[str, FolderMoments], threads: int) -> None:
        self.task, self.bundle, self.out, self.sources, self.threads = task, bundle, out, sources, threads
        for part, source in sources.items():
            build_item_cache(out / part, task, bundle, source, ItemRecipe(), workers=threads)
        self.test = ItemCache.load(out / "test")
        self.asked = self.test.take(escalated(self.test))

    def trained(self, seed: int, epochs: int | None) -> MiniReviewer:
        """The reviewer of a seed, trained and calibrated as `fusion train reviewer` does it."""
        out = self.out / f"seed{seed}"
        if not (out / "done").is_file():
            learn, validation = ItemCache.load(self.out / "train"), ItemCache.load(self.out / "val")
            recipe = replace(recipe_for(flips=True, threads=self.threads), seed=seed, epochs=epochs or 2)
            train_reviewer(learn, out, recipe, validation=validation, resume=True)
            save_together(out / "reviewer", self.task, combinations_of(learn.columns["truth"]))
            calibrate_reviewer(out / "reviewer", validation, rows=escalated(validation))
            (out / "done").touch()
        return MiniReviewer.load(str(out / "reviewer"))

    def answers(self, reviewers: list[MiniReviewer]) -> Answers:
        """What they make of the escalated items at every rate, and without maps."""
        truth, found = self.asked.columns["truth"], Answers()
        for name, rate, maps in (*((rate.name, rate, True) for rate in RATES), ("no maps", RATES[-1], False)):
            right, losses = [], []
            for reviewer in reviewers:
                tables = predict(reviewer, self.asked, pixels=False, maps=maps, rate=rate)
                right.append((reviewer.choose(tables) == truth).all(1).astype(np.float64))
                losses.append(log_losses(tables, truth))
            found[name] = np.mean(right, 0), np.mean(losses, 0)
        return found

    def sizes(self, reviewer: MiniReviewer) -> dict[str, float]:
        """Median bytes of the whole message at every rate."""
        device = Device.load(self.task, self.bundle, ItemRecipe())
        moments = escalated_moments(self.sources["test"], self.test, most=MOMENTS)
        return {name: figures.bytes_median for name, figures in measure_rates(device, reviewer, moments)[1].items()}


def main() -> None:
    """Make what is missing, ask and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pcb")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/deeppcb"))
    parser.add_argument("--learned", type=Path, nargs="+", default=[Path("runs/pcb/bottleneck/bundle")])
    parser.add_argument("--against", type=Path, help="default: the bundled one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/bottleneck"))
    arguments = parser.parse_args()
    if missing := [path for path in (arguments.data, *arguments.learned) if not path.is_dir()]:
        print(f"{missing[0]} is not there; see --help; skipped")
        return
    task = Task.load(arguments.task)
    pictures = image_folder(task, arguments.data)
    learn, held = held_out(pictures.stems("trainval"))
    sources = {
        "train": FolderMoments(pictures, task, learn, PCB_VARIANTS),
        "val": FolderMoments(pictures, task, held),
        "test": FolderMoments(pictures, task, tuple(pictures.stems("test"))),
    }
    bundles = {"axes": arguments.against or bundle_folder(task, None)}
    bundles |= {f"learned {path}" if len(arguments.learned) > 1 else "learned": path for path in arguments.learned}
    first: tuple[Arm, Answers] | None = None
    print("| projections | rate | bytes | verdicts right | log-loss | minus axes: right [95 %] | log-loss [95 %] |")
    print("|---|---|---|---|---|---|---|")
    for number, (name, bundle) in enumerate(bundles.items()):
        arm = Arm(task, bundle, arguments.out / f"arm{number}", sources, arguments.threads)
        reviewers = [arm.trained(seed, arguments.epochs) for seed in range(arguments.seeds)]
        found, sizes = arm.answers(reviewers), arm.sizes(reviewers[0])
        if first is None:
            first = arm, found
        elif not np.array_equal(first[0].asked.columns["truth"], arm.asked.columns["truth"]):
            raise SystemExit(f"{bundle}: another detector, other items; give bundles made from one another")
        scenes = arm.asked.columns["scene"]
        for rate, (right, loss) in found.items():
            base_right, base_loss = first[1][rate]
            gains = [_told(mean_interval(mine - other, scenes)) for mine, other in
                     ((right, base_right), (loss, base_loss))] if number else ["", ""]  # fmt: skip
            size = f"{sizes[rate]:,.0f}" if rate in sizes else ""
            print(f"| {name} | {rate} | {size} | {right.mean():.3f} | {loss.mean():.4f} | {' | '.join(gains)} |")
    print(f"\n{len(first[0].asked) if first else 0} items, {arguments.seeds} seeds")


def _told(gain: Interval) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


if __name__ == "__main__":
    main()
