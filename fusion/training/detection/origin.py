"""What a detector's training begins with: random weights, a user's checkpoint, or the detector of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError, ModelError
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.architectures import DEFAULT, definition, named, new_network
from fusion.training.detection.checkpoint import SUFFIX, read_checkpoint
from fusion.training.detection.kinds import class_of
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.warm_start import read_weights, settle_batch_norms, start_from


def origin(recipe: DetectorRecipe, names: Sequence[str]) -> str:
    """What ultralytics begins with to train a detector of the kinds `names`: a checkpoint of the user's, or the
    definition of an architecture, into which `begin` puts a bundle's detector later.

    Nothing is trained. Raises `ModelError` for a start that cannot be trained so, `ConfigError` for one of another
    architecture.
    """
    if recipe.start.endswith(SUFFIX):
        return _checked(recipe)
    architecture = recipe.architecture or DEFAULT
    if begins_with_bundle(recipe):
        try:
            _put_in(new_network(architecture, len(names)), Path(recipe.start), names)
        except ModelError as error:
            raise ModelError(f"{recipe.start}: no {architecture} can begin with it: {error}") from None
    return definition(architecture)


def _checked(recipe: DetectorRecipe) -> str:
    network = read_checkpoint(Path(recipe.start))
    if network.is_fused():
        raise ModelError(f"{recipe.start}: its batch norms were folded away; give the checkpoint before it was fused")
    if recipe.architecture and named(network) != recipe.architecture:
        raise ConfigError(
            f"{recipe.start} is a {named(network)}, not a {recipe.architecture}; leave out --architecture"
        )
    return recipe.start


def begins_with_bundle(recipe: DetectorRecipe) -> bool:
    """Whether a recipe's start is the folder of a bundle."""
    return bool(recipe.start) and not recipe.start.endswith(SUFFIX)


def begin(bundle: Path, trainer: Any) -> None:
    """Continue the bundled detector: its weights, and batch norms settled on one batch of training pictures.

    `trainer` is ultralytics', ready to start. Of a student beside its teacher it is the student that begins so.
    """
    import torch

    student = _learner(trainer.model)
    _put_in(student, bundle, [trainer.data["names"][i] for i in range(trainer.data["nc"])])
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    with torch.inference_mode(mode=False):
        settle_batch_norms(student, [batch["img"]])
    _learner(trainer.ema.ema).load_state_dict(student.state_dict())


def _put_in(network: Any, bundle: Path, names: Sequence[str]) -> None:
    start_from(network, read_weights(bundle / GRAPH_NAME), _classes(bundle, names), names)


def _classes(bundle: Path, names: Sequence[str]) -> Sequence[str]:
    """The classes of a bundle's task; those of `names` when the task is a file of the user's own, known by no name."""
    from fusion.codec import Profile
    from fusion.task import Task

    try:
        return Task.load(Profile.load(bundle).task).classes
    except ConfigError:
        return tuple(dict.fromkeys(map(class_of, names)))


def _learner(model: Any) -> Any:
    """The network that learns: of a student and its teacher the student, else the model itself."""
    return getattr(model, "student_model", model)
