"""Whether things the yard's models never learnt look novel to them: real pictures against held-out yard scenes.

    fusion simulate yard --scenes 300 --split test -o out/scenes-test     # appearance and layouts never trained on
    python benchmarks/novelty.py --ordinary out/scenes-test/images --strange PICTURES [PICTURES ...]

Both go through the device's own detector and fusion model, camera alone: as the yard's camera would have taken them.
Items that score at least `--score` count, for the detector must have taken them for something of the yard to be wrong
about them. Told for each folder: the area under the ROC curve and the share of items beyond 1, with 95 % intervals from
resampling pictures (the items of one picture are no independent draws).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_node.config import EngineSettings
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.perception import ModelPerception
from fusion.geometry import Rig
from fusion.recording.base import open_recording
from fusion.synchronization import Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import Availability, Image, Modality, Reading, Sample, SampleId, SensorSlot

SUFFIXES = {".jpg", ".jpeg", ".png"}
RECORDING = Path(__file__).parents[1] / "fusion/recordings/yard.mcap"
RESAMPLES = 1000
Groups = list[NDArray[np.float64]]
"""Distances of the items, a picture an array."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ordinary", type=Path, default=Path("out/scenes-test/images"))
    parser.add_argument("--strange", type=Path, nargs="+", default=[])
    parser.add_argument("--score", type=float, default=0.3)
    parser.add_argument("--limit", type=int, default=400, help="pictures a folder")
    arguments = parser.parse_args()
    if not arguments.ordinary.is_dir() or not arguments.strange:
        print(f"{arguments.ordinary} or --strange: no pictures; see --help for how they are made; skipped")
        return
    task = Task.load("yard")
    reference = Synchronizer.of_task(task, SynchronizerSettings()).reference
    camera = camera_of(task, reference)
    perception = load_perception(task, camera, model_folder(task, ""), EngineSettings())
    rig = open_recording(RECORDING, task).info().rig
    rows = {}
    for folder in (arguments.ordinary, *arguments.strange):
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.limit]
        rows[folder] = [
            found
            for path in tqdm(pictures, desc=folder.name, unit="picture")
            if len(found := distances(perception, task, camera, rig, path, arguments.score))
        ]
    ordinary, rng = rows.pop(arguments.ordinary), np.random.default_rng(0)
    print("| pictures | with items | items | AUROC [95 %] | beyond 1 [95 %] |\n|---|---|---|---|---|")
    usual = told(beyond(groups) for groups in many(ordinary, rng))
    print(f"| {arguments.ordinary.name}, ordinary | {_row(ordinary)} | - | {usual} |")
    for folder, strange in rows.items():
        if not strange:
            print(f"| {folder.name} | 0 | 0 | - | - |")
            continue
        pairs = list(zip(many(ordinary, rng), many(strange, rng), strict=True))
        area = told(auroc(np.concatenate(a), np.concatenate(b)) for a, b in pairs)
        print(f"| {folder.name} | {_row(strange)} | {area} | {told(beyond(b) for _, b in pairs)} |")


def distances(
    perception: ModelPerception, task: Task, camera: str, rig: Rig | None, path: Path, least: float
) -> NDArray[np.float64]:
    """Of the items in one picture that score at least `least`."""
    bgr = cv2.imread(str(path))
    if bgr is None:
        return np.zeros(0)
    reading = Reading(camera, Modality.CAMERA, 10**9, Image(np.ascontiguousarray(bgr[..., ::-1])))
    slots = {name: SensorSlot.absent() for name in task.sensors}
    slots[camera] = SensorSlot(Availability.PRESENT, 0, reading)
    sample = Sample(SampleId("bench", "0" * 16, 1), 10**9, slots, rig, 1)
    look = perception.fuse(sample, perception.detect(sample))
    known = [value for found, value in zip(look.detections, look.novelty, strict=True) if found.score >= least]
    return np.array([value for value in known if value is not None], np.float64)


def many(groups: Groups, rng: np.random.Generator) -> list[Groups]:
    """The pictures as they are, then drawn anew with replacement."""
    drawn = (rng.integers(0, len(groups), len(groups)) for _ in range(RESAMPLES))
    return [groups, *([groups[i] for i in places] for places in drawn)]


def auroc(ordinary: NDArray[np.float64], strange: NDArray[np.float64]) -> float:
    """The chance that a strange item is farther than an ordinary one; ties count half."""
    ranked = np.sort(ordinary)
    below, upto = np.searchsorted(ranked, strange, "left"), np.searchsorted(ranked, strange, "right")
    return float((below + upto).mean() / (2 * len(ranked)))


def beyond(groups: Groups) -> float:
    """Share of items that the device would call novel."""
    return float((np.concatenate(groups) > 1).mean())


def told(values: Iterable[float]) -> str:
    """The first value, with the interval of the others."""
    first, *others = values
    low, high = np.percentile(others, [2.5, 97.5])
    return f"{first:.3f} [{low:.3f}, {high:.3f}]"


def _row(groups: Groups) -> str:
    return f"{len(groups)} | {sum(map(len, groups))}"


if __name__ == "__main__":
    main()
