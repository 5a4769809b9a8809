"""The reviewer-mini network: a Hugging Face LLaVA of small shape, and the projector of our evidence lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fusion.review.batch import EvidenceBatch
from fusion.review.layout import FeatureLayout
from fusion.review.projector import EvidenceProjector
from fusion.review.prompt import PromptIds
from fusion.review.rows import RowBuilder

PrefixCache: TypeAlias = list[tuple[Tensor, Tensor]]
"""Keys and values (1, heads, prefix, width) a layer."""


@dataclass(frozen=True, slots=True)
class ReviewerSize:
    """Widths and depths of the text model (`hidden`, `layers`, ...) and of the vision tower."""

    hidden: int = 192
    layers: int = 4
    heads: int = 6
    mlp: int = 576
    vision_hidden: int = 128
    vision_layers: int = 3
    vision_heads: int = 4
    vision_mlp: int = 320
    patch: int = 16
    projector: int = 256


def build_vlm(size: ReviewerSize, vocabulary: int, ids: PromptIds, crop: int) -> Any:
    """A `LlavaForConditionalGeneration` with random weights: SigLIP tower without pooling head, Llama text model."""
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    vision = SiglipVisionConfig(
        hidden_size=size.vision_hidden,
        intermediate_size=size.vision_mlp,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        image_size=crop,
        patch_size=size.patch,
        vision_use_head=False,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids.image,
        image_seq_length=(crop // size.patch) ** 2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config)


class ReviewerNetwork(nn.Module):
    """Evidence in, label logits out: one forward for every slot of every row.

    A row is `[prefix][visual tokens][one marker a slot]`; the visual tokens are maps, fused tokens, crop and
    opinion, whichever it has. Rows are padded on the left, behind the prefix that the batch shares.
    """

    prefix: Tensor
    markers: Tensor

    def __init__(self, vlm: Any, projector: EvidenceProjector, ids: PromptIds) -> None:
        super().__init__()
        self.vlm = vlm
        self.projector = projector
        self.ids = ids
        self.register_buffer("prefix", torch.tensor([ids.prefix]), persistent=False)
        self.register_buffer("markers", torch.tensor(ids.markers), persistent=False)

    @property
    def layout(self) -> FeatureLayout:
        """The shapes of the evidence."""
        return self.projector.layout

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.prefix.device

    @property
    def crop_tokens(self) -> int:
        """Visual tokens of a crop."""
        return int(self.vlm.config.image_seq_length)

    def prefix_cache(self) -> PrefixCache:
        """Keys and values of the shared prompt."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.vlm.config.text_config)
        self.vlm.model.language_model(input_ids=self.prefix, past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def visual(self, batch: EvidenceBatch, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Visual embeddings (B, V, width), left-padded with zeros, and each row's own number of them (B,).

        `seen` is what `see` made of the batch's crops, where the caller has it already.
        """
        rows = RowBuilder(batch.size, batch.opinion.device)
        if len(batch.map_rows):
            rows.add(batch.map_rows, self.projector.project_maps(batch.maps))
        if len(batch.token_rows):
            projected = self.projector.project_tokens(batch.tokens, batch.token_index)
            rows.add_ragged(batch.token_rows, batch.token_index, projected)
        if len(batch.crop_rows):
            rows.add(batch.crop_rows, self.see(batch.crops) if seen is None else seen)
        everyone = torch.arange(batch.size, device=batch.opinion.device)
        rows.add(everyone, self.projector.project_opinion(batch.opinion)[:, None])
        done = rows.done()
        return done.values, done.counts

    def see(self, crops: Tensor) -> Tensor:
        """(P, 3, S, S) → (P, tokens, width) through the vision tower and LLaVA's own projector."""
        features = self.vlm.model.get_image_features(pixel_values=crops, return_dict=True).pooler_output
        return torch.stack(features) if isinstance(features, list) else features

    def forward(self, batch: EvidenceBatch, prefix: PrefixCache | None = None) -> list[Tensor]:
        """Logits (B, options) float32 a slot; `prefix` is computed here when it is not given."""
        visual, counts = self.visual(batch)
        return self.answer(visual, counts, self.prefix_cache() if prefix is None else prefix)

    def answer(self, visual: Tensor, counts: Tensor, prefix: PrefixCache) -> list[Tensor]:
        """Logits a slot for left-padded `visual` (B, V, width) with `counts` (B,) true tokens a row."""
        from transformers import DynamicCache

        rows, longest = visual.shape[:2]
        slots, known = len(self.markers), self.prefix.shape[1]
        markers = self.vlm.get_input_embeddings()(self.markers).to(visual.dtype)
        embeddings = torch.cat([visual, markers.expand(rows, -1, -1)], 1)
        padding = (longest - counts)[:, None]
        steps = torch.arange(longest + slots, device=visual.device)[None]
        positions = known + (steps - padding).clamp(min=0)
        mask = torch.cat([torch.ones(rows, known, dtype=torch.bool, device=visual.device), steps >= padding], 1)
        cache = DynamicCache(config=self.vlm.config.text_config)
        for layer, (keys, values) in enumerate(prefix):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        logits = self.vlm(
            inputs_embeds=embeddings,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=slots,
        ).logits.float()
        return [logits[:, i, list(options)] for i, options in enumerate(self.ids.options)]
