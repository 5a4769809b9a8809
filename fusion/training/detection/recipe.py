"""What a detector's run is made of, and the recipes of the tasks whose weights are bundled."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.training.detection.architectures import DEFAULT


@dataclass(frozen=True, slots=True)
class DetectorRecipe:
    """What a run is made of; `image_size` in pixels is the side of a training picture or tile.

    `architecture` is one of `fusion.training.detection.architectures.NAMES`, or empty for that of the checkpoint in
    `start`. `device` is what torch calls it. `transpose` is the share of square training pictures whose axes are
    swapped: with flips in both directions, every quarter turn of a picture that has no upright. Both heads of a YOLO26
    are not taught: only the one that is exported.
    """

    architecture: str = DEFAULT
    image_size: int = 320
    epochs: int = 10
    batch: int = 16
    learning_rate: float = 0.002
    seed: int = 7
    threads: int = 2
    mosaic: float = 0.0
    flip_vertical: float = 0.0
    transpose: float = 0.0
    hue: float = 0.015
    scale: float = 0.2
    rectangular: bool = False
    device: str = "cpu"
    start: str = ""
    """An ultralytics checkpoint `.pt`, or the folder of a bundle, to go on from; empty: from random weights."""


RECIPES = {
    "pcb": DetectorRecipe(image_size=320, epochs=6, flip_vertical=0.5, hue=0.0, scale=0.15),
    "yard": DetectorRecipe(image_size=640, epochs=12, learning_rate=0.001, rectangular=True),
}


def recipe_for(task: str) -> DetectorRecipe:
    """The recipe of a task by name; a general one for tasks that have none."""
    return RECIPES.get(task, DetectorRecipe())
