"""The fusion model with every set of sensors, late and badly calibrated ones, against specialists and simpler fusion.

All arms get the same cached tokens of the frozen trunk and frozen ears, the same number of steps, batches and seeds:
specialists trained on one set of sensors only, models that concatenate what sensors tell or fuse answers late, other
rates of modality dropout, and few labels with and without self-supervised pretraining.

    python benchmarks/sensor_subsets.py prepare   # frozen ears' tokens; late and miscalibrated test scenes
    python benchmarks/sensor_subsets.py train     # every arm and seed; a CPU takes hours, a GPU minutes
    python benchmarks/sensor_subsets.py tune      # late fusion's weights, on validation scenes
    python benchmarks/sensor_subsets.py measure   # on the 2,000 test scenes
    python benchmarks/sensor_subsets.py report    # the tables of docs/results.md

Needs the features that `fusion train fusion` and `fusion evaluate fusion` have cached.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from subsets.measuring import measure, tune
from subsets.report import report
from subsets.scenes import prepare
from subsets.training import train

from fusion.training.optimisation import FP32, PRECISIONS

STEPS = {"prepare": prepare, "train": train, "tune": tune, "measure": measure, "report": report}


def main() -> None:
    """One of the four steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(STEPS), nargs="?", default="report")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--train", type=Path, help="cached features; default: RUNS/yard/features-train")
    parser.add_argument("--test", type=Path, help="cached features; default: out/evaluate/features-yard-test")
    parser.add_argument("--scenes", type=Path, help="the test scenes; default: out/evaluate/scenes-yard")
    parser.add_argument("--bundle", type=Path, default=Path("fusion/weights/yard"))
    parser.add_argument("--out", type=Path, default=Path("out/subsets"))
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--cases", nargs="*", help="measure only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pool", type=int, default=1500, help="utterances heard once, for training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default=FP32)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.train = arguments.train or arguments.runs / "yard" / "features-train"
    arguments.test = arguments.test or Path("out/evaluate/features-yard-test")
    arguments.scenes = arguments.scenes or Path("out/evaluate/scenes-yard")
    if missing := [folder for folder in (arguments.train, arguments.test) if not folder.is_dir()]:
        print(f"no features in {missing[0]}; run 'fusion train fusion' and 'fusion evaluate fusion' first; skipped")
        return
    STEPS[arguments.step](arguments)


if __name__ == "__main__":
    main()
