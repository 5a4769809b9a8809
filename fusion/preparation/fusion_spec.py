"""What a fusion model is built from and what it answers: `fusion.json`, read by devices and by training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fusion.errors import ModelError
from fusion.preparation.pillars import PILLAR_POINTS, PillarGrid
from fusion.preparation.speech import WINDOW_SAMPLES

SPEC_NAME = "fusion.json"


@dataclass(frozen=True, slots=True)
class FusionSpec:
    """Everything a fusion model is rebuilt from.

    `profile` is the fingerprint of the trunk it reads; `steps` are that profile's steps of strides 16 and 32,
    `gains` the spread of the dequantised maps; `words` is the vocabulary the speech encoder spots. `point_scale` is
    what the leading channels of an item's points are multiplied by, channels beyond are not read; `standing` says
    whether an item is told how it stands among its kind, `told_conditions` whether it is told what condition the
    detector makes of it, `referring` whether what was said is matched with what was found. The defaults are what
    models had before they were asked.
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
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}; train one with 'fusion train fusion'") from None
        except ValueError as error:
            raise ModelError(f"{path}: not JSON ({error}); restore or train the bundle again") from None
        try:
            return cls._from(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: not the description of a fusion model ({error})") from None

    @classmethod
    def _from(cls, data: Mapping[str, Any]) -> Self:
        fields = {key: _tuples(value) for key, value in data.items()}
        return cls(**{**fields, "grid": PillarGrid(**data["grid"])})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value
