"""Trains the YOLO student of a task through ultralytics.

Runs in bfloat16 on processors that have it (twice the speed of float32 on AVX-512 machines).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_OFFLINE", "true")


@dataclass(frozen=True, slots=True)
class DetectorRecipe:
    """What a run is made of; `image_size` in pixels is the side of a training picture or tile."""

    architecture: str = "yolov8n.yaml"
    image_size: int = 320
    epochs: int = 10
    batch: int = 16
    learning_rate: float = 0.002
    seed: int = 7
    threads: int = 2
    mosaic: float = 0.0
    flip_vertical: float = 0.0
    hue: float = 0.015
    scale: float = 0.2
    rectangular: bool = False
    start: str = ""
    """Folder of a bundle to go on from; empty: from random weights."""


def train_detector(data_yaml: Path, out: Path, recipe: DetectorRecipe, *, resume: bool = False) -> Path:
    """Train on `data_yaml`, keep checkpoints under `out`, return the best `.pt`.

    The `.pt` is ultralytics' own working file; what is shipped is exported from it.
    """
    import torch
    from ultralytics import YOLO

    from fusion.training.low_precision import LowPrecisionTrainer

    torch.set_num_threads(recipe.threads)
    out = out.absolute()  # ultralytics puts a relative folder under one of its own
    last = out / "weights" / "last.pt"
    model = YOLO(str(last) if resume and last.is_file() else recipe.architecture)
    # ultralytics leaves one core free by resetting the thread count when it picks the device
    model.add_callback("on_train_start", lambda _: torch.set_num_threads(recipe.threads))
    if recipe.start and not (resume and last.is_file()):
        model.add_callback("on_pretrain_routine_end", partial(_start, Path(recipe.start)))
    model.add_callback("on_pretrain_routine_end", lambda trainer: trainer.model.to(memory_format=torch.channels_last))
    model.train(
        trainer=LowPrecisionTrainer,
        data=str(data_yaml),
        imgsz=recipe.image_size,
        epochs=recipe.epochs,
        batch=recipe.batch,
        nbs=recipe.batch,  # a step a batch; ultralytics would gather 64 pictures for one
        optimizer="AdamW",
        lr0=recipe.learning_rate,
        lrf=0.02,
        cos_lr=True,
        warmup_epochs=0.5,
        weight_decay=0.0005,
        mosaic=recipe.mosaic,
        close_mosaic=2,
        fliplr=0.5,
        flipud=recipe.flip_vertical,
        hsv_h=recipe.hue,
        scale=recipe.scale,
        rect=recipe.rectangular,
        amp=False,
        device="cpu",
        workers=0,
        cache="ram",
        seed=recipe.seed,
        deterministic=True,
        plots=False,
        val=True,
        project=str(out.parent),
        name=out.name,
        exist_ok=True,
        resume=resume and last.is_file(),
    )
    return out / "weights" / "best.pt"


def _start(bundle: Path, trainer: Any) -> None:
    """Continue the bundled detector: its weights, and batch norms settled on one batch of training pictures."""
    import torch

    from fusion.task import Task
    from fusion.training.warm_start import read_weights, settle_batch_norms, start_from

    old = Task.load(bundle.name).classes
    names = [trainer.data["names"][i] for i in range(trainer.data["nc"])]
    start_from(trainer.model, read_weights(bundle / "detector.onnx"), old, names)
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    with torch.inference_mode(mode=False):
        settle_batch_norms(trainer.model, [batch["img"]])
    trainer.ema.ema.load_state_dict(trainer.model.state_dict())
