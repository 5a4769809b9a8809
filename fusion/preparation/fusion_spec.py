"""What a fusion model is built from and what it answers: `fusion.json`, read by devices and by training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from fusion.errors import ModelError
from fusion.json_text import parse_json
from fusion.preparation.pillars import PILLAR_POINTS, PillarGrid
from fusion.preparation.speech import WINDOW_SAMPLES

SPEC_NAME = "fusion.json"
PRECISION_NAME = "precision.json"
"""Beside graphs that compute in fewer bits: what they lose, and what an engine has to compute in."""
ENGINE_PRECISION = "engine_precision"
"""Its key for the latter, by graph."""
ITEMS, BEV = "items", "bev"


@dataclass(frozen=True, slots=True)
class BevSpec:
    """Bird's-eye-view queries and heads: `stride` LiDAR tokens a query's side, cameras looked into at `heights`
    (metres, ego frame), the fused map enlarged by two `steps` times and `channels` wide, the best `peaks` given out.
    """

    stride: int = 2
    heights: tuple[float, ...] = (0.1, 0.5, 1.0, 1.6)
    steps: int = 2
    channels: int = 64
    peaks: int = 64


@dataclass(frozen=True, slots=True)
class FusionSpec:
    """Everything a fusion model is rebuilt from.

    `profile` is the fingerprint of the trunk it reads; `steps` are that profile's steps of strides 16 and 32,
    `gains` the spread of the dequantised maps; `words` is the vocabulary the speech encoder spots. `point_scale` is
    what the leading channels of an item's points are multiplied by, channels beyond are not read; `standing` says
    whether an item is told how it stands among its kind, `told_conditions` whether it is told what condition the
    detector makes of it, `referring` whether what was said is matched with what was found. The defaults are what
    models had before they were asked.

    `layout` says what the queries are: `items` of the detector, or with `bev` the cells of a bird's-eye view. `sensors`
    are the modalities it reads and how many sensors of each, `encoders` by modality the encoder's registered name and
    its options (`{"encoder": "backbone", "network": "resnet18"}`), where it is not the one of the modality's own name.
    """

    name: str
    task: str
    profile: str
    classes: tuple[str, ...]
    conditions: tuple[str, ...]
    intents: tuple[str, ...]
    words: tuple[str, ...]
    image_width: int
    image_height: int
    steps: tuple[tuple[float, ...], tuple[float, ...]]
    gains: tuple[float, float]
    width: int
    heads: int
    layers: int
    hidden: int
    queries: int
    latents: int
    grid: PillarGrid
    points: int = PILLAR_POINTS
    samples: int = WINDOW_SAMPLES
    dropout: float = 0.0
    point_scale: tuple[float, ...] = (1.0,) * 6
    standing: bool = False
    told_conditions: bool = False
    referring: bool = False
    layout: str = ITEMS
    sensors: Mapping[str, int] = field(default_factory=lambda: {"camera": 1, "lidar": 1, "speech": 1})
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bev: BevSpec = BevSpec()

    def encoder_name(self, modality: str) -> str:
        """The registered name of a modality's encoder."""
        return str(self.encoders.get(modality, {}).get("encoder", modality))

    def encoder_options(self, modality: str) -> dict[str, Any]:
        """What the encoder is told besides the spec."""
        return {key: value for key, value in self.encoders.get(modality, {}).items() if key != "encoder"}

    @property
    def camera_map(self) -> tuple[int, int]:
        """Rows and columns of camera tokens."""
        return self.image_height // 16, self.image_width // 16

    def save(self, folder: Path) -> None:
        """Write `fusion.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPEC_NAME).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `fusion.json`. Raises `ModelError` naming the file when it is missing or not what it should be."""
        path = folder / SPEC_NAME
        try:
            data = parse_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}; train one with 'fusion train fusion'") from None
        except ValueError as error:
            raise ModelError(f"{path}: not JSON ({error}); restore or train the bundle again") from None
        try:
            return cls._from(data)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path}: not the description of a fusion model ({error})") from None

    @classmethod
    def _from(cls, data: Mapping[str, Any]) -> Self:
        fields = {key: _tuples(value) for key, value in data.items()}
        parts = {"grid": PillarGrid(**data["grid"]), "bev": BevSpec(**_tuples(data.get("bev", {})))}
        return cls(**{**fields, **parts})


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value
