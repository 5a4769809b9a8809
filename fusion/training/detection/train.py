"""Trains a YOLO student of a task through ultralytics.

Runs in bfloat16 on processors that have it (twice the speed of float32 on AVX-512 machines) and on GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError, ModelError
from fusion.training.detection.checkpoint import BEST, LAST, unfinished
from fusion.training.detection.origin import begin, begins_with_bundle, origin
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.runs import check_run, decides, keep_recipe
from fusion.training.detection.tiles import data_names

_CPU = "cpu"
_GPU_WORKERS = 8


def train_detector(
    data_yaml: Path,
    out: Path,
    recipe: DetectorRecipe,
    *,
    resume: bool = False,
    trainer: Any = None,
    extra: dict[str, Any] | None = None,
    decided_by: Mapping[str, object] | None = None,
) -> Path:
    """Train on `data_yaml`, keep checkpoints under `out`, return the best `.pt`.

    The `.pt` is ultralytics' own working file; what is shipped is exported from it. `trainer` is a subclass of
    `LowPrecisionTrainer` that learns from more than labels, `extra` its further arguments; `decided_by` is what decides
    how the run comes out beside the recipe and the data. Raises `ConfigError` for an unknown architecture or device,
    for transposing pictures that are not square, for an `out` that holds weights already or, with `resume`, those of
    another recipe; `ModelError` for a checkpoint to start from that cannot be used, for a run that cannot go on, and
    when no epoch could be kept.
    """
    import torch
    from ultralytics import YOLO

    from fusion.training.detection.low_precision import LowPrecisionTrainer

    check_device(recipe.device)
    if recipe.transpose and recipe.rectangular:
        raise ConfigError("a recipe that keeps pictures rectangular cannot transpose them; leave out one of the two")
    torch.set_num_threads(recipe.threads)
    out = out.absolute()  # ultralytics puts a relative folder under one of its own
    last = out / LAST
    decided = decides(recipe, data_yaml, **(decided_by or {}))
    begun = check_run(out, decided, start=recipe.start, resume=resume)
    goes_on = resume and unfinished(last)
    if resume and not goes_on and (out / BEST).is_file():
        return out / BEST
    begins_with = str(last) if goes_on else origin(recipe, data_names(data_yaml))
    if not begun:
        keep_recipe(out, decided)
    model = YOLO(begins_with)
    # ultralytics leaves one core free by resetting the thread count when it picks the device
    model.add_callback("on_train_start", lambda _: torch.set_num_threads(recipe.threads))
    if begins_with_bundle(recipe) and not goes_on:
        model.add_callback("on_pretrain_routine_end", partial(begin, Path(recipe.start)))
    model.add_callback("on_pretrain_routine_end", lambda trainer: trainer.model.to(memory_format=torch.channels_last))
    model.train(
        trainer=partial(trainer or LowPrecisionTrainer, transpose=recipe.transpose),
        **_arguments(recipe),
        **(extra or {}),
        data=str(data_yaml),
        project=str(out.parent),
        name=out.name,
        exist_ok=True,
        resume=goes_on,
    )
    if not (out / BEST).is_file():
        raise ModelError(f"{out}: no epoch was good enough to be kept, as when losses are nan; lower --learning-rate")
    return out / BEST


def check_device(device: str) -> None:
    """Raise `ConfigError` when `device` (as torch calls it) is not there; ultralytics would end in a traceback."""
    import torch

    if device == _CPU:
        return
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ConfigError(f"--device {device}: a detector learns on {_CPU} or cuda, or cuda:N for one of several")
    if int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: this machine has {torch.cuda.device_count()} GPUs that torch can use")


def _arguments(recipe: DetectorRecipe) -> dict[str, Any]:
    """The recipe in ultralytics' words."""
    on_cpu = recipe.device == _CPU
    return {
        "imgsz": recipe.image_size,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "nbs": recipe.batch,  # a step a batch; ultralytics would gather 64 pictures for one
        "optimizer": "AdamW",
        "lr0": recipe.learning_rate,
        "lrf": 0.02,
        "cos_lr": True,
        "warmup_epochs": 0.5,
        "weight_decay": 0.0005,
        "mosaic": recipe.mosaic,
        "close_mosaic": max(2, recipe.epochs // 10),
        "fliplr": 0.5,
        "flipud": recipe.flip_vertical,
        "hsv_h": recipe.hue,
        "scale": recipe.scale,
        "rect": recipe.rectangular,
        "amp": False,  # the trainer's own bfloat16; that of ultralytics downloads a network to test itself
        "device": recipe.device if on_cpu else recipe.device.removeprefix("cuda:").replace("cuda", "0"),
        "workers": 0 if on_cpu else _GPU_WORKERS,
        "cache": "ram",
        "seed": recipe.seed,
        "deterministic": True,
        "plots": False,
        "val": True,
    }
