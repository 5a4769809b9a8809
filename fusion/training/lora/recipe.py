"""What `fusion train lora` is told."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.errors import ConfigError
from fusion.training.slot_training import SlotRecipe

ALL_LINEAR, PROJECTOR = "all-linear", "projector"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRecipe(SlotRecipe):
    """Low-rank adaptation (Hu et al., 2022): `W + alpha / rank * B A` in every linear layer that `targets` names.

    `targets` are last parts of names in the language model (`q_proj`), `all-linear` for all of those, and `projector`
    for the layers that read evidence into its tokens.
    """

    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    rank: int = 2
    alpha: int = 4
    targets: tuple[str, ...] = ("q_proj", "v_proj", PROJECTOR)

    def __post_init__(self) -> None:
        for name, value in (("rank", self.rank), ("alpha", self.alpha), ("learning rate", self.learning_rate)):
            if not value > 0:
                raise ConfigError(f"fusion train lora: {name} is {value}; give one above 0")
        if self.epochs < 1:
            raise ConfigError(f"fusion train lora: epochs is {self.epochs}; give 1 or more")
