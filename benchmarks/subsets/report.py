"""The tables of docs/results.md, as Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.task import Task
from fusion.training.scene_features import open_cache
from subsets.arms import DISTURBED, SUBSETS
from subsets.files import measured_path


class Results:
    """Every figure of every arm and case, with its resamples: (seeds, 1 + draws)."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._kept: dict[tuple[str, str], dict[str, np.ndarray[Any, Any]]] = {}

    def of(self, arm: str, case: str) -> dict[str, np.ndarray[Any, Any]]:
        """By figure: the mean over seeds of each resample; the first is what was measured."""
        if (arm, case) not in self._kept:
            paths = [measured_path(self._arguments, arm, seed, case) for seed in range(self._arguments.seeds)]
            each = [self._figures(path) for path in paths if path.is_file()]
            self._kept[arm, case] = {n: np.stack([e[n] for e in each]) for n in each[0]} if each else {}
        return {name: values.mean(0) for name, values in self._kept[arm, case].items()}

    def seeds(self, arm: str, case: str) -> int:
        """How many seeds were measured."""
        self.of(arm, case)
        return next((len(v) for v in self._kept[arm, case].values()), 0)

    def _figures(self, path: Path) -> dict[str, np.ndarray[Any, Any]]:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def cell(self, arm: str, case: str, name: str) -> str:
        """A figure."""
        found = self.of(arm, case).get(name)
        return "-" if found is None else f"{found[0]:.3f}"

    def gain(self, arm: str, case: str, rival: str, rival_case: str, name: str) -> str:
        """The difference to a rival, with its paired interval."""
        mine, other = self.of(arm, case).get(name), self.of(rival, rival_case).get(name)
        if mine is None or other is None:
            return "-"
        difference = mine - other
        low, high = np.quantile(difference[1:], [0.025, 0.975])
        return f"{difference[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def report(arguments: argparse.Namespace) -> None:
    """The tables, as Markdown."""
    results = Results(arguments)
    if not results.seeds("fused", "all"):
        print(f"nothing measured in {arguments.out}; run the steps 'prepare', 'train' and 'measure' first; skipped")
        return
    task = Task.load("yard")
    print(f"{len(open_cache(arguments.test))} test scenes, seeds: {results.seeds('fused', 'all')}\n")
    _subsets(results)
    _conditions_table(results, task)
    _rivals(results)
    _disturbances(results)
    _sweep(results)
    _labels(results)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


GAINS = ("mAP", "condition", "asked")
FIGURES = ("mAP", "condition", "condition balanced", "asked")


def _subsets(results: Results) -> None:
    rows = []
    for case in SUBSETS:
        cells = [results.cell("fused", case, f) for f in FIGURES]
        gains = [results.gain("fused", case, case, case, f) for f in FIGURES[:2]]
        rows.append([case, *cells, *gains])
    print("### One model, any sensors, and specialists\n")
    _rows(["sensors", *FIGURES, "mAP minus specialist", "condition minus specialist"], rows)
    rows = [
        [f"all minus {single}", *(results.gain("fused", "all", single, single, f) for f in FIGURES[:3])]
        for single in ("camera", "lidar")
    ]
    _rows(["", *FIGURES[:3]], rows)
    quiet = [results.gain("fused", case, "fused", "all", "mAP") for case in ("camera+lidar", "noisy speech")]
    print(f"Detection (mAP) without a microphone minus with: {quiet[0]}; with noise as loud as speech: {quiet[1]}\n")


def _conditions_table(results: Results, task: Task) -> None:
    rows = []
    for label, arm, case in (
        ("camera specialist", "camera", "camera"),
        ("LiDAR specialist", "lidar", "lidar"),
        ("fused, camera only", "fused", "camera"),
        ("fused, LiDAR only", "fused", "lidar"),
        ("fused, camera + LiDAR", "fused", "camera+lidar"),
    ):
        rows.append([label, *(results.cell(arm, case, f"condition {i}") for i in range(len(task.conditions)))])
    print("### Recall by condition (an object that is missed counts as wrong)\n")
    _rows(["", *task.conditions], rows)


def _rivals(results: Results) -> None:
    print("### Other ways of fusing\n")
    rows = [
        [
            case,
            *(results.cell(arm, case, f) for arm in ("fused", "concat", "late") for f in ("mAP", "condition")),
            *(results.gain("fused", case, rival, case, f) for rival in ("concat", "late") for f in GAINS),
        ]
        for case in SUBSETS
    ]
    names = [f"{arm} {f}" for arm in ("fused", "concat", "late") for f in ("mAP", "condition")]
    _rows(["sensors", *names, *(f"{f} minus {rival}" for rival in ("concat", "late") for f in GAINS)], rows)


def _disturbances(results: Results) -> None:
    print("### Late and miscalibrated sensors\n")
    arms = ("fused", "all", "concat")
    cases = ["all", *DISTURBED]
    rows = [
        [case, *(f"{results.cell(arm, case, 'mAP')} / {results.cell(arm, case, 'condition')}" for arm in arms)]
        for case in cases
    ]
    _rows(["case (mAP / condition)", "fused", "fused, no dropout", "concat"], rows)


def _sweep(results: Results) -> None:
    print("### Modality dropout\n")
    arms = {"0": "all", "0.25": "dropout-25", "0.5": "fused", "0.75": "dropout-75"}
    cases = ("camera+lidar", "camera", "lidar")
    rows = []
    for rate, arm in arms.items():
        cells = [f"{results.cell(arm, case, 'mAP')} / {results.cell(arm, case, 'condition')}" for case in cases]
        mean = [np.mean([results.of(arm, c)["mAP"][0] for c in cases]) if results.of(arm, "lidar") else float("nan")]
        rows.append([rate, *cells, f"{mean[0]:.3f}"])
    _rows(["rate (mAP / condition)", *cases, "mean mAP"], rows)


def _labels(results: Results) -> None:
    print("### A tenth of the labels\n")
    rows = []
    for label, arm in (
        ("10 % of the labels", "labels-10"),
        ("... after masked modelling", "labels-10-masked"),
        ("... after contrastive learning", "labels-10-contrastive"),
        ("all labels", "fused"),
    ):
        cells = [
            f"{results.cell(arm, case, 'mAP')} / {results.cell(arm, case, 'condition')}"
            for case in ("all", "camera", "lidar")
        ]
        gains = [results.gain(arm, case, "labels-10", case, f) for case in ("all", "lidar") for f in GAINS[:2]]
        rows.append([label, *cells, *(["-"] * 4 if arm == "labels-10" else gains)])
    gained = [f"{case}: {f} gained" for case in ("all", "lidar") for f in GAINS[:2]]
    _rows(["", "all (mAP / condition)", "camera", "lidar", *gained], rows)
