"""What an encoder class offers, and how one is found by name: the entry-point group `fusion.encoders`.

An encoder is a torch module for one reading of one sensor. Its forward takes the tensors named by `INPUTS`, with a
batch axis, and gives features (B, N, D) and positions (B, N, D) first. Modules that also hear words come from `speech`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from torch import Tensor

from fusion.encoders.position import PlanePosition, RayPosition
from fusion.errors import ConfigError
from fusion.preparation.fusion_spec import FusionSpec


class Positions(NamedTuple):
    """The position encodings that encoders and queries share."""

    ray: RayPosition
    plane: PlanePosition


class EncoderType(Protocol):
    """What an entry point of the group `fusion.encoders` must name."""

    INPUTS: ClassVar[tuple[str, ...]]
    """Names of the forward's arguments in a batch and in the exported graph."""

    @classmethod
    def from_spec(cls, spec: FusionSpec, positions: Positions, /, **options: Any) -> Self:
        """The encoder of a model of `spec`; `options` are the spec's own for this modality."""

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""


def find_encoder(name: str) -> EncoderType:
    """The encoder class registered as `name`. Raises `ConfigError` that lists the known names."""
    found = {point.name: point for point in entry_points(group="fusion.encoders")}
    if name not in found:
        raise ConfigError(f"no encoder named {name!r}; installed: {', '.join(sorted(found)) or 'none'}")
    loaded: EncoderType = found[name].load()
    return loaded
