"""What leaves the device about one item. Plain values; `fusion.codec` makes and reads the compressed parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

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


class SymbolCoding(StrEnum):
    """How a layer's symbols became bytes: rANS over the profile's tables, or zstd where that coder is not to be had."""

    RANS = "rans"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class MapLayer:
    """Coded symbols of some channels; `crc32` covers windows, gate, step exponent, the layer's number and `symbols`."""

    symbols: bytes
    crc32: int
    coding: SymbolCoding = SymbolCoding.RANS


@dataclass(frozen=True, slots=True)
class GatedMaps:
    """The `maps` lane: neck features inside a spatial gate, entropy coded.

    `windows` has one window a level (finest first). `gate` is the packed bits (numpy `packbits`, big
    endian within a byte) of all windows' cells, level after level, row after row. `layers` hold the open cells'
    symbols, coarse to fine, and any first few of them are evidence, too; a symbol stands for `2 ** step_exponent`
    of the profile's steps. `whole` says that the one layer there holds all channels, as devices sent them before there
    were layers (its checksum covers windows, gate and symbols alone).
    """

    windows: tuple[CellWindow, ...]
    gate: bytes
    layers: tuple[MapLayer, ...]
    step_exponent: int = 0
    whole: bool = False

    @property
    def byte_size(self) -> int:
        """Bytes of the compressed parts."""
        return len(self.gate) + sum(len(layer.symbols) for layer in self.layers)

    def first(self, layers: int) -> Self:
        """The same evidence without what comes after its first `layers` layers."""
        return replace(self, layers=self.layers[:layers])


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
class PointCrop:
    """The `points` lane: `count` LiDAR points around the item, for people.

    In metres of the ego frame (REP-103): `origin` plus `step_m` times the steps that `encoded` holds
    (`fusion.codec.points`).
    """

    origin: tuple[float, float, float]
    step_m: float
    count: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class SoundClip:
    """The `sound` lane: what was heard up to the item's moment, for people; mono, `start_ns` its first sample's time.

    `encoding` is `wav-mulaw` (`fusion.codec.sound`).
    """

    encoding: str
    encoded: bytes
    sample_rate_hz: int
    start_ns: int


@dataclass(frozen=True, slots=True)
class KeptLanes:
    """What stays on the device about one item until it is asked for; None for what there is not."""

    pixels: PixelCrop | None = None
    points: PointCrop | None = None
    sound: SoundClip | None = None


@dataclass(frozen=True, slots=True)
class DeviceOpinion:
    """What the device's own heads say, by option name; empty where the task has no such head."""

    label_scores: Mapping[str, float] = field(default_factory=dict)
    condition_scores: Mapping[str, float] = field(default_factory=dict)
    asked_score: float | None = None
    box3d: Box3D | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything the service gets about one item.

    `profile` is the trunk's fingerprint that fixes every shape of `maps`; `models` are the versions of the
    device's other models. `box` and `class_scores` are the detector's, in pixels of the model's input image
    `image_width` x `image_height`. `value` ranks items when the link or the reviewer is short. `points` and `sound` are
    for people: no reviewer reads them.
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
    points: PointCrop | None = None
    sound: SoundClip | None = None
