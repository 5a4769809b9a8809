"""Trains a YOLO student of a task through ultralytics.

Runs in bfloat16 on processors that have it (twice the speed of float32 on AVX-512 machines) and on GPUs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError, ModelError
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.architectures import DEFAULT, definition, named
from fusion.training.detection.checkpoint import BEST, LAST, SUFFIX, read_checkpoint, unfinished
from fusion.training.detection.recipe import DetectorRecipe

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
) -> Path:
    """Train on `data_yaml`, keep checkpoints under `out`, return the best `.pt`.

    The `.pt` is ultralytics' own working file; what is shipped is exported from it. `trainer` is a subclass of
    `LowPrecisionTrainer` that learns from more than labels, `extra` its further arguments. Raises `ConfigError` for an
    unknown architecture or device or for transposing pictures that are not square, `ModelError` for a checkpoint to
    start from that cannot be used.
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
    goes_on = resume and unfinished(last)
    if resume and not goes_on and (out / BEST).is_file():
        return out / BEST
    model = YOLO(str(last) if goes_on else _origin(recipe))
    # ultralytics leaves one core free by resetting the thread count when it picks the device
    model.add_callback("on_train_start", lambda _: torch.set_num_threads(recipe.threads))
    if recipe.start and not recipe.start.endswith(SUFFIX) and not goes_on:
        model.add_callback("on_pretrain_routine_end", partial(_start, Path(recipe.start)))
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


def _origin(recipe: DetectorRecipe) -> str:
    """What ultralytics begins with: a checkpoint of the user's, or the definition of an architecture."""
    if not recipe.start.endswith(SUFFIX):
        return definition(recipe.architecture or DEFAULT)
    network = read_checkpoint(Path(recipe.start))
    if network.is_fused():
        raise ModelError(f"{recipe.start}: its batch norms were folded away; give the checkpoint before it was fused")
    if recipe.architecture and named(network) != recipe.architecture:
        raise ConfigError(
            f"{recipe.start} is a {named(network)}, not a {recipe.architecture}; leave out --architecture"
        )
    return recipe.start


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


def _start(bundle: Path, trainer: Any) -> None:
    """Continue the bundled detector: its weights, and batch norms settled on one batch of training pictures."""
    import torch

    from fusion.codec import Profile
    from fusion.task import Task
    from fusion.training.detection.warm_start import read_weights, settle_batch_norms, start_from

    old = Task.load(Profile.load(bundle).task).classes
    names = [trainer.data["names"][i] for i in range(trainer.data["nc"])]
    weights = read_weights(bundle / GRAPH_NAME)
    start_from(trainer.model, weights, old, names)
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    with torch.inference_mode(mode=False):
        settle_batch_norms(trainer.model, [batch["img"]])
    trainer.ema.ema.load_state_dict(trainer.model.state_dict())
