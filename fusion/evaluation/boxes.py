"""What `fusion evaluate boxes` does: anybody's detections against the truth, by a benchmark's own metric."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fusion.errors import ConfigError, InputError, RecordingError
from fusion.evaluation.kitti import evaluate_kitti
from fusion.evaluation.kitti_labels import read_kitti_folders
from fusion.evaluation.kitti_report import KittiMetrics
from fusion.evaluation.nuscenes import evaluate_nuscenes
from fusion.evaluation.nuscenes_files import read_bike_racks, read_ego_positions, read_nuscenes_boxes
from fusion.evaluation.nuscenes_report import NuScenesMetrics


def evaluate_boxes(arguments: argparse.Namespace) -> None:
    """Print the table, and write `metrics.json` and `metrics.md` into `--out` where one is given."""
    others = {"kitti": ("unfiltered", "ego", "bike_racks"), "nuscenes": ("frames",)}[arguments.format]
    for option in others:
        if getattr(arguments, option):
            raise ConfigError(f"--{option.replace('_', '-')} has no meaning for --format {arguments.format}")
    metrics = _kitti(arguments) if arguments.format == "kitti" else _nuscenes(arguments)
    print(metrics)
    if arguments.out is not None:
        _write(metrics, arguments)


def _kitti(arguments: argparse.Namespace) -> KittiMetrics:
    frames = _frames(arguments.frames) if arguments.frames else None
    return evaluate_kitti(*read_kitti_folders(arguments.truth, arguments.detections, frames))


def _frames(path: Path) -> list[str]:
    """The frame names of a split file such as KITTI's `val.txt`, one a line."""
    try:
        frames = path.read_bytes().decode("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: no readable list of frames ({error})") from error
    repeated = {frame for frame in frames if frames.count(frame) > 1} if len(set(frames)) < len(frames) else set()
    if repeated or not frames:
        raise RecordingError(f"{path}: " + (f"names frame {min(repeated)} twice" if repeated else "names no frame"))
    return frames


def _nuscenes(arguments: argparse.Namespace) -> NuScenesMetrics:
    return evaluate_nuscenes(
        read_nuscenes_boxes(arguments.truth),
        read_nuscenes_boxes(arguments.detections),
        filtered=not arguments.unfiltered,
        ego_positions=read_ego_positions(arguments.ego) if arguments.ego else None,
        bike_racks=read_bike_racks(arguments.bike_racks) if arguments.bike_racks else None,
    )


def _write(metrics: KittiMetrics | NuScenesMetrics, arguments: argparse.Namespace) -> None:
    told = {"truth": str(arguments.truth), "detections": str(arguments.detections)}
    document = json.dumps({**metrics.to_dict(), **told}, indent=1, allow_nan=False)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "metrics.json").write_text(document + "\n")
        (arguments.out / "metrics.md").write_text(f"{metrics}\n\nTruth `{told['truth']}`, `{told['detections']}`.\n")
    except OSError as error:
        raise InputError(f"{arguments.out}: results cannot be written ({error.strerror})") from error
    print(f"\nwrote {arguments.out / 'metrics.json'} and metrics.md")
