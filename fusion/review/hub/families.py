"""The families of pretrained models that are known: where their parts are, and how they see pictures.

LLaVA, Idefics3 and SmolVLM, Qwen2-VL, Qwen2.5-VL and Qwen3-VL put a picture's features among the text; Mllama
(Llama-3.2-Vision) lets the text attend to them in layers of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import ModelError

GRID = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
"""Families whose visual tokens stand on a grid of rows and columns (M-RoPE)."""
IN_TEXT = frozenset({"llava", "idefics3", "smolvlm", *GRID})
CROSS = frozenset({"mllama"})


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Features of P pictures, (P, n, width * (1 + deep)); of a grid family the n stand on `grid` rows and columns.

    The last `blank` of the n are of tiles that a picture does not fill.
    """

    features: Tensor
    grid: tuple[int, int] | None = None
    blank: int = 0


class Family:
    """A loaded model and its processor. Raises `ModelError` for a family that is not known."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.kind = str(model.config.model_type)
        if self.kind not in IN_TEXT | CROSS:
            known = ", ".join(sorted(IN_TEXT | CROSS))
            raise ModelError(f"a model of type {self.kind!r} cannot be asked for verdicts; known types: {known}")
        self.model = model
        self.processor = processor
        if hasattr(processor.image_processor, "do_image_splitting"):
            processor.image_processor.do_image_splitting = False

    @property
    def text(self) -> Any:
        """The text model, without its head."""
        inner = self.model.model
        return inner.text_model if hasattr(inner, "text_model") else inner.language_model

    @property
    def head(self) -> nn.Linear:
        """From hidden states to the vocabulary."""
        found: nn.Linear = self.model.lm_head
        return found

    @property
    def width(self) -> int:
        """Width of hidden states and of visual tokens."""
        return int(self.text.config.hidden_size)

    @property
    def deep(self) -> int:
        """How many more features a visual token has for the first layers (DeepStack, Meng et al., 2024)."""
        return len(getattr(self.model.config.vision_config, "deepstack_visual_indexes", ()))

    @property
    def image_token(self) -> int:
        """The token that stands for a visual token."""
        config = self.model.config
        return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)

    def see(self, pictures: Tensor) -> Seen:
        """Features of `pictures` (P, 3, S, S) uint8, through the family's own processor, tower and projector."""
        images = list(pictures.cpu())
        nested = [[image] for image in images] if self.kind in {"idefics3", "smolvlm", "mllama"} else images
        inputs = self.processor.image_processor(images=nested, return_tensors="pt").to(pictures.device)
        if self.kind in CROSS:
            return self._cross(inputs)
        names = ("pixel_values", "image_grid_thw", "pixel_attention_mask")
        given = {name: inputs[name] for name in names if name in inputs}
        given["pixel_values"] = given["pixel_values"].to(self.model.dtype)
        told = self.model.model.get_image_features(**given, return_dict=True)
        features = _stacked(told.pooler_output, len(images))
        if self.kind not in GRID:
            return Seen(features)
        if self.deep:
            features = torch.cat([features, *(_stacked(each, len(images)) for each in told.deepstack_features)], -1)
        merge = self.model.config.vision_config.spatial_merge_size
        _, rows, columns = (int(side) for side in inputs["image_grid_thw"][0])
        return Seen(features, (rows // merge, columns // merge))

    def _cross(self, inputs: Any) -> Seen:
        inner = self.model.model
        states = inner.vision_model(
            pixel_values=inputs["pixel_values"].to(self.model.dtype),
            aspect_ratio_ids=inputs["aspect_ratio_ids"],
            aspect_ratio_mask=inputs["aspect_ratio_mask"],
        ).last_hidden_state
        tiles: Tensor = inner.multi_modal_projector(states)  # (P, 1, tiles, patches, width)
        empty = tiles.shape[2] - int(inputs["aspect_ratio_mask"][0].sum())
        return Seen(tiles[:, 0].flatten(1, 2), blank=empty * tiles.shape[3])


def _stacked(features: Any, pictures: int) -> Tensor:
    """(P, n, width), whatever a version of transformers gives: that, all pictures' rows in one, or a list of them."""
    if isinstance(features, Tensor):
        return features if features.ndim == 3 else features.reshape(pictures, -1, features.shape[-1])
    parts = list(features)
    if len(parts) != pictures:
        raise ModelError(f"the vision tower made features of {len(parts)} pictures from {pictures}")
    return torch.stack(parts)
