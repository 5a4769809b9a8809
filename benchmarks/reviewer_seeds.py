"""What the reviewer adds to the device's fused heads, and how much of it is luck: the same recipe from several seeds.

Each reviewer is trained on the items that `fusion train reviewer` has cached, calibrated on the validation items, and
compared with the device on the items that `fusion evaluate reviewer` has cached: verdicts right, and the difference
with its 95 % interval (paired bootstrap over scenes).

    python benchmarks/reviewer_seeds.py [--task yard] [--runs runs] [--items runs] [--seeds 3] [--epochs 8]

Needs those caches; about a quarter of an hour a seed on two cores. A seed that is trained already is not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.evaluation.reviewer import DETECTOR, DEVICE, REVIEWER, calibrate_reviewer, escalated, evaluate_reviewer
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.together import combinations_of, save_together
from fusion.task import Task
from fusion.training.reviewer import recipe_for, train_reviewer


def train(task: Task, folder: Path, out: Path, seed: int, epochs: int, threads: int) -> Path:
    """The reviewer of a seed, trained and calibrated as `fusion train reviewer` does it."""
    trained = out / "reviewer"
    if not (out / "run.json").is_file():
        cache, validation = ItemCache.load(folder / "review-train"), ItemCache.load(folder / "review-val")
        recipe = replace(recipe_for(flips=not task.conditions, threads=threads), seed=seed, epochs=epochs)
        train_reviewer(cache, out, recipe, validation=validation, resume=True)
        save_together(trained, task, combinations_of(cache.columns["truth"]))
        calibrate_reviewer(trained, validation, rows=escalated(validation))
    return trained


def main() -> None:
    """Train and measure every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="yard")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--items", type=Path, default=Path("out/evaluate"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    task, folder = Task.load(arguments.task), arguments.runs / arguments.task
    test, tuning = (arguments.items / f"items-{task.name}-{part}" for part in ("test", "val"))
    if missing := [
        path for path in (folder / "review-train", folder / "review-val", test, tuning) if not path.is_dir()
    ]:
        print(f"no items in {missing[0]}; run 'fusion train reviewer' and 'fusion evaluate reviewer' first; skipped")
        return
    items, validation = ItemCache.load(test), ItemCache.load(tuning)
    reports: list[dict[str, Any]] = []
    print("| seed | items | reviewer | device, fused heads | detector only | reviewer minus its best rival |")
    print("|---|---|---|---|---|---|")
    for seed in range(arguments.seeds):
        out = arguments.runs / "seeds" / task.name / str(seed)
        trained = train(task, folder, out, seed, arguments.epochs, arguments.threads)
        report = evaluate_reviewer(MiniReviewer.load(str(trained)), items, out, validation=validation)
        reports.append(report)
        for part in ("escalated", "all_items"):
            print(_row(f"{seed}, {part.replace('_', ' ')}", report[part]), flush=True)
    for part in ("escalated", "all_items"):
        right = [report[part]["methods"][REVIEWER]["verdict"]["value"] for report in reports]
        gain = [_gain(report[part])["value"] for report in reports]
        print(
            f"\n{part.replace('_', ' ')}, mean of {len(reports)} seeds [range]: reviewer {_spread(right)}, "
            f"minus its best rival {_spread(gain)}"
        )


def _rival(section: dict[str, Any]) -> str:
    rivals = [name for name in (DEVICE, DETECTOR) if name in section["methods"]]
    return max(rivals, key=lambda name: section["methods"][name]["verdict"]["value"])


def _gain(section: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = section["differences"][f"{REVIEWER} minus {_rival(section)}"]
    return found


def _row(name: str, section: dict[str, Any]) -> str:
    cells = [_interval(section["methods"][m]["verdict"]) if m in section["methods"] else "none" for m in
             (REVIEWER, DEVICE, DETECTOR)]  # fmt: skip
    return f"| {name} | {section['items']} | {' | '.join(cells)} | {_interval(_gain(section))} |"


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


if __name__ == "__main__":
    main()
