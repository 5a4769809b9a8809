"""The scene sets that models learn and are judged on: where each lies, how large it is, which seeds it has."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusion.errors import ConfigError
from fusion.task import Task

TRAIN_SCENES, FUSION_SCENES, REVIEW_SCENES, VAL_SCENES = 4000, 4000, 4000, 300
"""Scenes for the detector, for the fusion model, for the reviewer, and for validation. Each model meets those before
it on scenes they have not learnt, where they are no surer than they will be on a device."""
TUNING_SCENES = 100
"""Validation scenes the detector's threshold is chosen on, as the reviewer's rival."""
_FUSION_FIRST_SEED, _REVIEW_FIRST_SEED, _VAL_FIRST_SEED, _TEST_FIRST_SEED = 50_000, 100_000, 500_000, 900_000


def detector_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """What the detector learns from, and validation; simulated when `--data` does not give one."""
    if arguments.data:
        return Path(arguments.data)
    root = Path(arguments.out) / task.name / "scenes"
    _write(root, "val", VAL_SCENES, _VAL_FIRST_SEED, arguments)
    return _write(root, "train", TRAIN_SCENES, 0, arguments)


def fusion_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """What the fusion model learns from."""
    root = Path(arguments.out) / task.name / "fusion-scenes"
    return _write(root, "train", FUSION_SCENES, _FUSION_FIRST_SEED, arguments)


def review_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """What the reviewer learns from."""
    root = Path(arguments.out) / task.name / "review-scenes"
    return _write(root, "train", REVIEW_SCENES, _REVIEW_FIRST_SEED, arguments)


def tuning_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """The first validation scenes, beside the held-out ones."""
    root = Path(arguments.out) / f"scenes-{task.name}-val"
    return _write(root, "val", TUNING_SCENES, _VAL_FIRST_SEED, arguments)


def held_out_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """Scenes of the test split's appearance, made when `--data` does not give them."""
    if arguments.data:
        return Path(arguments.data)
    return _write(Path(arguments.out) / f"scenes-{task.name}", "test", arguments.scenes, _TEST_FIRST_SEED, arguments)


def card_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """The held-out scenes whose figures go on a detector's card."""
    root = Path(arguments.out) / task.name / "test-scenes"
    return _write(root, "test", 500, _TEST_FIRST_SEED, arguments)


def given_pictures(task: Task, arguments: argparse.Namespace) -> Path:
    """The image folder of a task that is not simulated. Raises `ConfigError` without `--data`."""
    if arguments.data:
        return Path(arguments.data)
    raise ConfigError(f"--data is missing: task {task.name} learns from {task.source}; give the folder")


def _write(root: Path, split: str, count: int, first_seed: int, arguments: argparse.Namespace) -> Path:
    from fusion.simulation import Split
    from fusion.simulation.scene_set import write_scene_set

    write_scene_set(root, Split(split), count, first_seed, workers=arguments.threads)
    return root
