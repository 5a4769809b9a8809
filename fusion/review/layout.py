"""The shapes of a task's evidence once it is decoded: what the projector is built for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fusion.codec import Profile
from fusion.config import Settings
from fusion.task import Task

NOTHING = "nothing"
"""The label of an item that is no object of the task."""
BOX_WIDTH = 7
BOX3D_WIDTH = 9
AGE_WIDTH = 2
_Stride = Annotated[int, Field(ge=1, le=128)]
_Channels = Annotated[int, Field(ge=1, le=4096)]
_Parts = Annotated[int, Field(ge=1, le=32)]


class FeatureLayout(Settings):
    """Everything that fixes the arrays of one item.

    `strides` and `channels` are the trunk's levels, finest first. The region around the item's box is
    resampled to `grid * parts[l]` cells a side on level l, and one of the `grid` x `grid` visual tokens reads
    `parts[l]` x `parts[l]` of them. `token_width` is 0 where the task has no fused model.
    """

    image_width: int = Field(gt=0, le=8192)
    image_height: int = Field(gt=0, le=8192)
    strides: tuple[_Stride, ...]
    channels: tuple[_Channels, ...]
    classes: tuple[str, ...]
    conditions: tuple[str, ...]
    sensors: tuple[str, ...]
    token_width: int = Field(ge=0, le=4096)
    max_tokens: int = Field(ge=0, le=256)
    grid: int = Field(default=4, ge=1, le=32)
    parts: tuple[_Parts, ...] = (3, 2, 1)
    margin: float = Field(default=0.2, ge=0, le=2)
    crop: int = Field(default=96, ge=8, le=512)

    @model_validator(mode="after")
    def _levels(self) -> FeatureLayout:
        if not self.strides or not len(self.strides) == len(self.channels) == len(self.parts):
            raise ValueError("strides, channels and parts need one entry a level")
        return self

    @property
    def map_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Shape (rows, columns, channels and gate bit) of each level's resampled map."""
        sides = [self.grid * parts for parts in self.parts]
        return tuple((side, side, channels + 1) for side, channels in zip(sides, self.channels, strict=True))

    @property
    def map_token_width(self) -> int:
        """Numbers one visual token of the `maps` lane is made from."""
        return sum(rows * columns * depth for rows, columns, depth in self.map_shapes) // self.map_tokens

    @property
    def map_tokens(self) -> int:
        """Visual tokens the `maps` lane costs."""
        return self.grid * self.grid

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the fused heads: the classes, then `nothing`."""
        return (*self.classes, NOTHING)

    @property
    def heads(self) -> slice:
        """Where the fused heads' opinions stand in the opinion vector; empty without a fused model."""
        start = BOX_WIDTH + 2 * len(self.classes)
        width = 2 * (len(self.labels) + len(self.conditions) + 1) + 1 if self.token_width else 0
        return slice(start, start + width)

    @property
    def opinion_width(self) -> int:
        """Length of the vector of geometry and opinions; see `fusion.review.opinion`."""
        scene = BOX3D_WIDTH + AGE_WIDTH * len(self.sensors) if self.token_width else 0
        return int(self.heads.stop) + scene


def layout_for(task: Task, profile: Profile, *, token_width: int = 0, max_tokens: int = 0) -> FeatureLayout:
    """The layout of a task on a trunk; `token_width` and `max_tokens` of its fused tokens, 0 without a fused model."""
    levels = profile.levels
    return FeatureLayout(
        image_width=profile.image_width,
        image_height=profile.image_height,
        strides=tuple(level.stride for level in levels),
        channels=tuple(level.channels for level in levels),
        classes=task.classes,
        conditions=task.conditions,
        sensors=tuple(task.sensors),
        token_width=token_width,
        max_tokens=max_tokens,
    )
