"""Two reviewers on the same held-out items at every rate of evidence: verdicts right, log-loss, and the differences.

    fusion evaluate evidence --task pcb --data DEEPPCB --out out/evaluate      # caches the items
    python benchmarks/reviewer_rates.py --task pcb --items out/evaluate/items-pcb-test --reviewer runs/new/reviewer

`--against-items` are the same items as the other reviewer's trunk sends them, where that is another (a learned
bottleneck): boxes and truth must be the same, in the same order.

Asked are the items that the device would escalate, or all, without pixels; last, as at the least rate but without maps.
Log-loss is the mean over slots of -ln of the truth's probability. Differences are `--reviewer` minus `--against` (the
bundled one), and `--reviewer` at a rate minus itself at the finest, with 95 % intervals (paired bootstrap over scenes
or pictures).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fusion.codec import RATES, Rate
from fusion.evaluation.bootstrap import Interval, mean_interval
from fusion.evaluation.reviewer import escalated, predict
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.task import Task
from fusion.training.bundle import bundle_folder
from fusion.training.rate_card import log_losses
from fusion.types import Float64Array

SAME = ("scene", "truth", "class_scores")
"""Of one detector's items, whatever its trunk makes of them."""


def answered(
    reviewer: MiniReviewer, cache: ItemCache, rate: Rate, *, maps: bool = True
) -> tuple[Float64Array, Float64Array]:
    """Whether each item's verdict is right in every slot (N,), 0 or 1, and its log-loss (N,)."""
    tables, truth = predict(reviewer, cache, pixels=False, maps=maps, rate=rate), cache.columns["truth"]
    return (reviewer.choose(tables) == truth).all(1).astype(np.float64), log_losses(tables, truth)


def main() -> None:
    """Ask both about every rate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pcb")
    parser.add_argument("--items", type=Path, default=Path("out/evaluate/items-pcb-test"))
    parser.add_argument("--reviewer", type=Path, default=Path("runs/pcb/reviewer/reviewer"))
    parser.add_argument("--against", type=Path, help="default: the bundled one")
    parser.add_argument("--against-items", type=Path, help="default: those of --items")
    parser.add_argument("--all-items", action="store_true", help="not only those that the device would escalate")
    arguments = parser.parse_args()
    if not (arguments.items.is_dir() and arguments.reviewer.is_dir()):
        print(f"no items in {arguments.items} or no reviewer in {arguments.reviewer}; see --help; skipped")
        return
    rival = arguments.against or bundle_folder(Task.load(arguments.task), None) / "reviewer"
    first, second = (MiniReviewer.load(str(folder)) for folder in (arguments.reviewer, rival))
    cache = ItemCache.load(arguments.items)
    theirs_of = ItemCache.load(arguments.against_items) if arguments.against_items else cache
    if any(not np.array_equal(cache.columns[name], theirs_of.columns[name]) for name in SAME):
        raise SystemExit(f"{arguments.against_items}: other items than those of {arguments.items}")
    if not arguments.all_items:
        asked = escalated(cache)
        cache, theirs_of = cache.take(asked), theirs_of.take(asked)
    scenes = cache.columns["scene"]
    print(f"{len(cache)} items of {len(np.unique(scenes))} scenes; {first.name} against {second.name}\n")
    print(
        "| rate | told | new, old | new minus old [95 %] | new minus new at the finest [95 %] |\n|---|---|---|---|---|"
    )
    finest = answered(first, cache, RATES[0])
    for name, rate, maps in (*((rate.name, rate, True) for rate in RATES), ("no maps", RATES[-1], False)):
        new, old = (
            answered(reviewer, items, rate, maps=maps) for reviewer, items in ((first, cache), (second, theirs_of))
        )
        for what, mine, theirs, best in zip(("verdicts right", "log-loss"), new, old, finest, strict=True):
            gains = [_told(mean_interval(mine - other, scenes)) for other in (theirs, best)]
            print(
                f"| {name} | {what} | {mine.mean():.3f}, {theirs.mean():.3f} | {gains[0]} | {gains[1]} |",
                flush=True,
            )


def _told(gain: Interval) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


if __name__ == "__main__":
    main()
