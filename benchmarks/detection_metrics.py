"""Our KITTI and nuScenes detection metrics against evaluators built as the official ones are: speed, and equal figures.

    python benchmarks/detection_metrics.py                 made-up frames
    python benchmarks/detection_metrics.py --data DIR      a folder that holds kitti_eval/ and nuscenes_eval/

Every set is measured as it is and repeated up to `--frames`. The rivals walk through frames, boxes and thresholds in
Python loops. That is what nuscenes-devkit does, and it is measured itself where it is installed (it wants numpy < 2, so
not beside this project). KITTI's evaluator compiles its loops with numba and needs a CUDA device for the rotated boxes;
neither is here, so the ratio of KITTI is against its structure, uncompiled, and says nothing about the compiled one.
Times are from arrays or boxes in memory, files already read; medians, one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from box_metrics import kitti_loops, nuscenes_devkit, nuscenes_loops, synthetic

from fusion.evaluation.kitti import evaluate_kitti
from fusion.evaluation.kitti_labels import KittiObjects, read_kitti_folders
from fusion.evaluation.nuscenes import evaluate_nuscenes
from fusion.evaluation.nuscenes_boxes import NuScenesBoxes
from fusion.evaluation.nuscenes_files import read_nuscenes_boxes

Kitti = tuple[list[KittiObjects], list[KittiObjects]]
NuScenes = tuple[NuScenesBoxes, NuScenesBoxes]
SYNTHETIC_FRAMES = 40
ALIKE = 1e-9
"""Largest difference of two evaluators' figures (percent or fraction) that is rounding."""


def timed(action: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median seconds of `action`, and what it gave."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)), result


def difference(ours: Any, theirs: Any) -> float:
    """Largest difference of the figures that both have; None and NaN are alike."""
    if isinstance(theirs, dict):
        return max((difference(ours[key], value) for key, value in theirs.items() if key in ours), default=0.0)
    numbers = np.array([ours, theirs], np.float64)  # None becomes NaN
    if np.isnan(numbers).any():
        return 0.0 if np.isnan(numbers).all() else np.inf
    return float(abs(numbers[0] - numbers[1]))


def numeric(figures: Any) -> Any:
    """`figures` with keys as text, and without what is neither a number nor a table of numbers."""
    if isinstance(figures, dict):
        kept = {str(key): numeric(value) for key, value in figures.items()}
        return {key: value for key, value in kept.items() if value is not ...}
    return figures if figures is None or isinstance(figures, float) else ...


def kitti_difference(ours: Any, theirs: kitti_loops.Figures) -> float:
    """Largest difference in percent points; where we have no figure the loops have 0."""
    worst = 0.0
    for value in ours.values:
        r11, r40 = theirs[value.class_name, value.difficulty, value.overlaps, value.metric]
        worst = max(worst, abs((value.r11 or 0.0) - r11), abs((value.r40 or 0.0) - r40))
    return worst


def repeated(boxes: NuScenesBoxes, times: int) -> NuScenesBoxes:
    """The same boxes in so many copies of the samples, each under its own token."""
    everything = boxes.where(np.tile(np.arange(len(boxes)), times))
    copy = np.repeat(np.arange(times), len(boxes))
    tokens = tuple(f"{token}-{number}" for number in range(times) for token in boxes.samples)
    return replace(everything, samples=tokens, sample=everything.sample + copy * len(boxes.samples))


class Table:
    """Rows of the printed table; remembers the worst disagreement."""

    def __init__(self) -> None:
        self.worst = 0.0
        print(f"{'metric':10}{'frames':>8}{'ours ms':>10}  {'rival':26}{'rival ms':>11}{'ratio':>8}{'difference':>12}")

    def row(self, metric: str, frames: int, ours: float, rival: str, theirs: float, apart: float) -> None:
        """One comparison, in seconds and in the figures' own unit."""
        self.worst = max(self.worst, apart)
        measured = f"{metric:10}{frames:8d}{ours * 1e3:10.1f}  {rival:26}{theirs * 1e3:11.1f}"
        print(f"{measured}{theirs / ours:8.1f}{apart:12.1e}", flush=True)


def measure_kitti(table: Table, data: Kitti, repeats: int, rival_repeats: int) -> None:
    """KITTI, ours and the loops, on the same frames."""
    ours, metrics = timed(lambda: evaluate_kitti(*data), repeats)
    theirs, figures = timed(lambda: kitti_loops.evaluate(*data), rival_repeats)
    table.row("KITTI", len(data[0]), ours, "loops (not compiled)", theirs, kitti_difference(metrics, figures))


def measure_nuscenes(table: Table, data: NuScenes, repeats: int, rival_repeats: int) -> None:
    """nuScenes, ours, the loops and, where it is there, the devkit, on the same samples."""
    ours, metrics = timed(lambda: evaluate_nuscenes(*data), repeats)
    mine = metrics.to_dict()
    held = [nuscenes_loops.samples(boxes) for boxes in data]
    theirs, figures = timed(lambda: nuscenes_loops.evaluate(*held), rival_repeats)
    frames = len(data[0].samples)
    table.row("nuScenes", frames, ours, "loops", theirs, difference(mine, numeric(figures)))
    if nuscenes_devkit.is_there():
        evaluated = [nuscenes_devkit.samples(boxes) for boxes in held]
        theirs, figures = timed(lambda: nuscenes_devkit.evaluate(*evaluated), rival_repeats)
        table.row("nuScenes", frames, ours, "nuscenes-devkit", theirs, difference(mine, numeric(figures)))


def load(folder: Path) -> tuple[Kitti, NuScenes]:
    """The sets of a folder with `kitti_eval/{gt,det}/` and `nuscenes_eval/{gt,pred}.json`."""
    kitti = read_kitti_folders(folder / "kitti_eval" / "gt", folder / "kitti_eval" / "det")
    boxes = folder / "nuscenes_eval"
    return kitti, (read_nuscenes_boxes(boxes / "gt.json"), read_nuscenes_boxes(boxes / "pred.json"))


def expected_difference(folder: Path, kitti: Kitti, nuscenes: NuScenes) -> float:
    """Largest difference from the official evaluators' figures that lie beside the data."""
    worst = 0.0
    for name, key, ours in (
        ("kitti_eval", "ap", evaluate_kitti(*kitti).to_dict()["ap"]),
        ("nuscenes_eval", "filtered", evaluate_nuscenes(*nuscenes).to_dict()),
    ):
        expected = json.loads((folder / name / "expected.json").read_text())[key]
        expected.pop("counts", None)
        worst = max(worst, difference(ours, numeric(expected)))
    return worst


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with kitti_eval/ and nuscenes_eval/; made-up frames without")
    parser.add_argument("--frames", type=int, default=3700, help="size of the large sets")
    parser.add_argument("--repeats", type=int, default=5, help="of ours, and of the rivals on the small sets")
    arguments = parser.parse_args()
    if arguments.data and not arguments.data.is_dir():
        parser.error(f"--data {arguments.data}: there is no such folder; without --data, made-up frames are measured")
    if arguments.data:
        kitti, nuscenes = load(arguments.data)
        print(
            f"largest difference from the official figures: {expected_difference(arguments.data, kitti, nuscenes):.1e}"
        )
    else:
        kitti = synthetic.kitti_frames(SYNTHETIC_FRAMES, seed=7)
        nuscenes = synthetic.nuscenes_samples(SYNTHETIC_FRAMES, seed=7)
    table = Table()
    measure_kitti(table, kitti, arguments.repeats, arguments.repeats)
    measure_nuscenes(table, nuscenes, arguments.repeats, arguments.repeats)
    times = max(1, round(arguments.frames / len(kitti[0])))
    measure_kitti(table, (kitti[0] * times, kitti[1] * times), arguments.repeats, 1)
    times = max(1, round(arguments.frames / len(nuscenes[0].samples)))
    measure_nuscenes(table, (repeated(nuscenes[0], times), repeated(nuscenes[1], times)), arguments.repeats, 1)
    print("rivals run once on the large sets")
    if table.worst > ALIKE:
        sys.exit(f"the evaluators disagree by {table.worst:.1e}")


if __name__ == "__main__":
    main()
