"""Screening by risk control: what is missed and what is sent, over random splits of recordings whose truth is known.

    for s in $(seq 2000 2079); do fusion simulate yard --seed $s --split test --seconds 10 -o out/patrols/$s.mcap; done
    python benchmarks/screening.py out/patrols

Each split calibrates on half of the recordings and is judged on the other half. Told for every alpha: the mean share of
defects missed there with twice its standard error, reviews a minute, and in how many splits nothing could be promised.
Splits in which nothing can be promised are left out of the means. Policies: suspicion of the fused heads, of the
detector alone, with an uncalibrated daemon's margin rules and voice requests on top, and with de-duplication off.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge_node.calibration.choosing import losses, thresholds, try_all
from edge_node.calibration.conformal import bound, never_rising, strictest
from edge_node.calibration.trying import Trial
from edge_node.calibration.watching import Visible, Watched, watch
from edge_node.config import EdgeSettings, EngineSettings, ScreeningSettings, SourceSettings
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.suspicion import suspicion
from fusion.synchronization import Synchronizer
from fusion.task import Task

ALPHAS = (0.1, 0.15, 0.2, 0.3, 0.4)
CALIBRATED = ScreeningSettings(uncertain_below=0.0, disagree_above=1.0, novelty=0.0, asked=1.0)
"""Suspicion is the only reason."""
MARGINS = ScreeningSettings(novelty=0.0)
SPLITS = 200


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("out/patrols"))
    parser.add_argument("--task", default="yard")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--splits", type=int, default=SPLITS)
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.mcap"))
    if len(paths) < 4:
        print(f"{arguments.folder}: fewer than 4 recordings; see --help for how they are made; skipped")
        return
    task = Task.load(arguments.task)
    recordings = seen(paths, task, arguments.threads)
    defects, minutes = sum(len(w.defects) for w in recordings), sum(w.seconds for w in recordings) / 60
    items = sum(len(m.candidates) for w in recordings for m in w.moments)
    tracks = sum(len({c.track.track for m in w.moments for c in m.candidates}) for w in recordings)
    print(f"{len(recordings)} recordings, {minutes:.1f} minutes, {defects} defects, {items} items, {tracks} tracks\n")
    policies: dict[str, tuple[Sequence[Watched], ScreeningSettings]] = {
        "fused": (recordings, CALIBRATED),
        "detector alone": ([detector_only(w, task) for w in recordings], CALIBRATED),
        "fused, margins and voice on top": (recordings, MARGINS),
        "fused, no de-duplication": ([replace(w, tracking=False) for w in recordings], CALIBRATED),
    }
    print(
        "| policy | alpha | missed, mean of splits | 2 standard errors | reviews a minute | of items | no promise in |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (watched, settings) in policies.items():
        for line in split_rows(watched, settings, arguments.splits):
            print(f"| {name} | {line} |", flush=True)


def seen(paths: Sequence[Path], task: Task, threads: int) -> list[Watched]:
    """All recordings as the task's own models see them."""
    settings = EdgeSettings(
        task=task.name,
        source=SourceSettings(path=paths[0]),
        engine=EngineSettings(threads=threads),
        screening=CALIBRATED,
    )
    reference = Synchronizer.of_task(task, settings.synchronizer).reference
    perception = load_perception(task, camera_of(task, reference), model_folder(task, ""), settings.engine)
    return [watch(p, settings, task, perception, Visible()) for p in tqdm(paths, desc="watch", unit="recording")]


def detector_only(watched: Watched, task: Task) -> Watched:
    """The same recording without fused heads."""
    moments = tuple(
        replace(
            moment,
            candidates=tuple(
                replace(c, fused=None, suspicion=suspicion(c.detection, None, task.conditions, task.ordinary))
                for c in moment.candidates
            ),
        )
        for moment in watched.moments
    )
    return replace(watched, moments=moments)


def split_rows(recordings: Sequence[Watched], settings: ScreeningSettings, splits: int) -> list[str]:
    """One row an alpha."""
    cuts = thresholds(recordings)
    trials = try_all(recordings, settings, cuts)
    rng = np.random.default_rng(7)
    orders = [rng.permutation(len(recordings)) for _ in range(splits)]
    half = len(recordings) // 2
    return [_row(alpha, recordings, trials, [(o[:half], o[half:]) for o in orders]) for alpha in ALPHAS]


def _row(
    alpha: float,
    recordings: Sequence[Watched],
    trials: Sequence[Sequence[Trial]],
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
) -> str:
    missed, sent, share, unkept = [], [], [], 0
    for ours, theirs in splits:
        place = strictest(bound(never_rising(losses([trials[r] for r in ours]))), alpha)
        if place is None:
            unkept += 1
            continue
        judged = [trials[r][place] for r in theirs]
        found = np.concatenate([trial.missed for trial in judged])
        missed.append(found.mean())
        sent.append(sum(t.sent for t in judged) / (sum(recordings[r].seconds for r in theirs) / 60))
        share.append(sum(t.sent for t in judged) / sum(t.items for t in judged))
    error = f"{2 * np.std(missed, ddof=1) / np.sqrt(len(missed)):.3f}" if len(missed) > 1 else "-"
    rate = f"{np.mean(sent):.0f}" if sent else "-"
    return f"{alpha:g} | {_mean(missed)} | {error} | {rate} | {_mean(share)} | {unkept}"


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "-"


if __name__ == "__main__":
    main()
