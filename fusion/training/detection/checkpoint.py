"""Reads and writes the trainer's own files, `.pt`: a user's checkpoint becomes a network, or one clear error.

Such a file is a pickle and may run code when it is read: give only files you trust.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from fusion.errors import InputError, ModelError, UnavailableError
from fusion.training.detection.architectures import NAMES, Network, check_detector, one_headed

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # a checkpoint that names an unknown module would install it

SUFFIX = ".pt"
_OFFICIAL = frozenset(f"{name}{SUFFIX}" for name in NAMES)
BEST = Path("weights") / "best.pt"
LAST = Path("weights") / "last.pt"
_TOLD = {
    "image_size": "imgsz",
    "epochs": "epochs",
    "batch": "batch",
    "learning_rate": "lr0",
    "mosaic": "mosaic",
    "scale": "scale",
    "flip_vertical": "flipud",
    "seed": "seed",
}
_FILES = {"started from": "model", "taught by": "distill_model"}
"""A recipe's words for ultralytics' own; the second name files."""


def read_checkpoint(path: Path) -> Network:
    """The detection network in `path`, float32, in evaluation mode, with one head.

    Raises `ModelError`, naming the file, when it is missing, unreadable, or no detector that a trunk can be made of.
    """
    if not path.is_file():
        raise ModelError(
            f"{path}: no such checkpoint; give an ultralytics {SUFFIX}, or train one: fusion train detector"
        )
    if path.suffix != SUFFIX:
        raise ModelError(f"{path}: not a checkpoint of ultralytics; those end in {SUFFIX}")
    network, _ = _load(path)
    try:
        check_detector(network, path)
        return one_headed(network)
    except (AttributeError, TypeError, ValueError, LookupError, RuntimeError) as error:  # an object of any kind
        raise ModelError(f"{path}: not a detector of ultralytics ({error!r}); give a detection checkpoint") from None


def _load(path: Path) -> tuple[Network, dict[str, Any]]:
    """Network and everything else of a checkpoint. Raises `ModelError` for one that cannot be read."""
    from ultralytics.nn.tasks import load_checkpoint

    try:
        network, stored = load_checkpoint(path.absolute())  # a bare name of its own it would delete and load anew
    except Exception as error:  # noqa: BLE001 a pickle can fail in any way
        first = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: not a checkpoint that ultralytics can read ({first or type(error).__name__})"
        ) from None
    return network, stored


def unfinished(last: Path) -> bool:
    """Whether a run whose last epoch's checkpoint is `last` can be gone on with. One that was stopped after its last
    epoch is finished here: what only the trainer needs is taken out of its checkpoints.

    Raises `ModelError` for a checkpoint that cannot be read, and where it is lost and the best is not: whether that run
    was finished is not known.
    """
    instead = f"remove {last.parents[1]}, or give another --out"
    if not last.is_file():
        if last.with_name(BEST.name).is_file():
            raise ModelError(f"{last}: not there beside {BEST.name}; the run cannot go on: {instead}")
        return False
    try:
        stored = _load(last)[1]
        epoch, epochs = int(stored.get("epoch", -1)), int((stored.get("train_args") or {}).get("epochs", 0))
    except (ModelError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{error}; the run cannot go on: {instead}") from None
    if 0 <= epoch < epochs - 1:
        return True
    if epoch >= 0:
        from ultralytics.utils.torch_utils import strip_optimizer

        for path in (last, last.with_name(BEST.name)):
            if path.is_file():
                strip_optimizer(path)
    return False


def how_trained(path: Path) -> dict[str, object]:
    """What the checkpoint says of its last training, in a recipe's words; nothing where it says nothing.

    Of files it names, the run or the file alone: where they lay means nothing elsewhere.
    """
    _, stored = _load(path)
    given = _plain(stored.get("train_args") or {})
    told = {ours: given[theirs] for ours, theirs in _TOLD.items() if given.get(theirs) is not None}
    return told | {ours: short_name(Path(str(given[theirs]))) for ours, theirs in _FILES.items() if given.get(theirs)}


def short_name(path: Path) -> str:
    """The name of the run a checkpoint is the best or the last of, or of the file."""
    return path.parent.parent.name if path.parent.name == BEST.parent.name else path.name


def write_checkpoint(network: Network, path: Path) -> Path:
    """Keep a network as the trainer would: any ultralytics reads it. Weights are stored as float16."""
    import torch
    from ultralytics import __version__
    from ultralytics.utils import DEFAULT_CFG_DICT

    stored = copy.deepcopy(network).half()
    for parameter in stored.parameters():
        parameter.requires_grad = False
    stored.criterion = None
    stored.args = {**DEFAULT_CFG_DICT, **_plain(getattr(network, "args", {})), "task": "detect"}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "epoch": -1,
            "model": stored,
            "ema": None,
            "optimizer": None,
            "train_args": stored.args,
            "version": __version__,
        },
        path,
    )
    return path


def is_official(given: Path) -> bool:
    """Whether the name of one of ultralytics' own detectors is meant, `yolo11n.pt`, and no file here."""
    return str(given) in _OFFICIAL and not given.exists()


def _official(name: str) -> Path:
    """The file of one of ultralytics' own detectors, in its folder of weights; loaded from its releases if need be.

    Raises `UnavailableError` when it is not there and cannot be had.
    """
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.downloads import attempt_download_asset

    folder = Path(SETTINGS["weights_dir"]).absolute()
    try:
        found = Path(attempt_download_asset(folder / name, retry=1))
    except (OSError, MemoryError) as error:
        told = " ".join(str(error).split())[:200]
        raise UnavailableError(
            f"{name}: ultralytics' own detector is not here and cannot be downloaded ({told}); put it in {folder}, or "
            "give the path of a copy"
        ) from None
    if not found.is_file():
        raise UnavailableError(f"{name}: ultralytics did not find its own detector; put it in {folder}")
    return found


def find_checkpoint(given: Path) -> Path:
    """The checkpoint that is meant: a `.pt`, the best of a run's folder, or one of ultralytics' own by its name.

    Raises `InputError` naming the folder, `UnavailableError` for one of ultralytics' own that cannot be had.
    """
    if is_official(given):
        return _official(given.name)
    if not given.is_dir():
        return given
    for inside in (BEST, Path(BEST.name)):
        if (given / inside).is_file():
            return given / inside
    raise InputError(f"{given}: holds no {BEST} of a finished run; give a checkpoint {SUFFIX} or a run's folder")


def _plain(arguments: Any) -> dict[str, Any]:
    return dict(arguments) if isinstance(arguments, dict) else dict(vars(arguments))
