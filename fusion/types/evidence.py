"""What leaves the device about one item. Plain values; `fusion.codec` makes and reads the compressed parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fusion.types.identity import ItemId
from fusion.types.scene import Box2D, Box3D
from fusion.types.sensor import Int8Array


class SendReason(StrEnum):
    """Why screening sent an item."""

    UNCERTAIN = "uncertain"
    DISAGREEMENT = "disagreement"
    NOVEL = "novel"
    ASKED_FOR = "asked_for"
    AUDIT = "audit"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True)
class CellWindow:
    """A rectangle of feature-map cells: left, top, width, height. Width and height may be 0."""

    x: int
    y: int
    width: int
    height: int

    @property
    def cells(self) -> int:
        """How many cells the window spans."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class GatedMaps:
    """The `maps` lane: neck features inside a spatial gate, entropy coded.

    `windows` has one window a level (finest first). `gate` is the packed bits (numpy `packbits`, big
    endian within a byte) of all windows' cells, level after level, row after row. `symbols` are the rANS
    words of the open cells' int8 codes; `crc32` covers windows, gate and symbols.
    """

    windows: tuple[CellWindow, ...]
    gate: bytes
    symbols: bytes
    crc32: int

    @property
    def byte_size(self) -> int:
        """Bytes of the compressed parts."""
        return len(self.gate) + len(self.symbols)


@dataclass(frozen=True, slots=True, eq=False)
class FusedTokens:
    """The `tokens` lane: `values` (T, D) int8, the item's own token first, then the scene's latents.

    A token's float value is `values * scale`.
    """

    values: Int8Array
    scale: float


@dataclass(frozen=True, slots=True)
class PixelCrop:
    """The `pixels` lane: a picture of the item's surroundings; `area` is the part of the frame it shows."""

    encoded: bytes
    encoding: str
    area: Box2D


@dataclass(frozen=True, slots=True)
class DeviceOpinion:
    """What the device's own heads say, by option name; empty where the task has no such head."""

    label_scores: Mapping[str, float] = field(default_factory=dict)
    condition_scores: Mapping[str, float] = field(default_factory=dict)
    asked_score: float | None = None
    box3d: Box3D | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything the reviewer gets about one item.

    `profile` is the trunk's fingerprint that fixes every shape of `maps`; `models` are the versions of the
    device's other models. `box` and `class_scores` are the detector's, in pixels of the model's input image
    `image_width` x `image_height`. `value` ranks items when the link or the reviewer is short.
    """

    item: ItemId
    task: str
    time_ns: int
    track: int
    profile: str
    models: Mapping[str, str]
    box: Box2D
    image_width: int
    image_height: int
    class_scores: Mapping[str, float]
    opinion: DeviceOpinion
    reasons: tuple[SendReason, ...]
    value: float
    ages_ns: Mapping[str, int]
    maps: GatedMaps | None = None
    tokens: FusedTokens | None = None
    pixels: PixelCrop | None = None
