"""Trains the rival of evidence: a reviewer of the same network and recipe on the same items, that only sees crops.

    python benchmarks/crop_reviewer.py --items runs/yard -o runs/crop-reviewer
    python benchmarks/rate_accuracy.py --data out/scenes-test --crop-reviewer runs/crop-reviewer/reviewer

Learns from the items that `fusion train reviewer` has cached in `--items`. No row has maps and every row its crop,
half of them as JPEG or WebP of a random quality leaves them; header, opinion and tokens are as ever. The best epoch and
the temperatures are those of validation crops. A run that was cut short goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from fusion.evaluation.reviewer import calibrate_reviewer, escalated
from fusion.review.item_cache import ItemCache
from fusion.review.together import combinations_of, save_together
from fusion.training.reviewer import ReviewerRecipe, recipe_for, train_reviewer


def crop_recipe(*, flips: bool, epochs: int, threads: int) -> ReviewerRecipe:
    """The reviewer's recipe with crops alone."""
    recipe = recipe_for(flips=flips, epochs=epochs, threads=threads)
    alone = replace(recipe.disturbance, without_maps=1.0, with_pixels=1.0, coarse_rates=0.0, recompressed=0.5)
    return replace(recipe, disturbance=alone)


def main() -> None:
    """Train, and tell the best epoch's validation figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=Path, default=Path("runs/yard"))
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/crop-reviewer"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not (arguments.items / "review-train").is_dir():
        print(f"no items in {arguments.items}; run 'fusion train reviewer' first; skipped")
        return
    cache, validation = (ItemCache.load(arguments.items / part) for part in ("review-train", "review-val"))
    recipe = crop_recipe(flips=not cache.task.conditions, epochs=arguments.epochs, threads=arguments.threads)
    run = train_reviewer(cache, arguments.out, recipe, validation=validation, resume=True)
    save_together(arguments.out / "reviewer", cache.task, combinations_of(cache.columns["truth"]))
    calibrate_reviewer(arguments.out / "reviewer", validation, rows=escalated(validation), crops_alone=True)
    print(", ".join(f"{name} {value:.4f}" for name, value in run.best.items()))


if __name__ == "__main__":
    main()
