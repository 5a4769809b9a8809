"""A pretrained vision-language model as a reviewer: evidence or pixels in, scores of labels out, in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusion.review.batch import CROP_MEAN, CROP_SPREAD, EvidenceBatch
from fusion.review.hub import attention
from fusion.review.hub.families import CROSS, GRID, Family
from fusion.review.hub.label_tree import Step
from fusion.review.hub.packed import pack
from fusion.review.hub.prompt import HubPrompt
from fusion.review.projector import EvidenceProjector
from fusion.review.rows import RowBuilder, VisualRows


class HubNetwork(nn.Module):
    """A row is `[before][visual tokens][after][tree of answers]`; `before` is shared by all rows and computed once.

    The visual tokens are maps, fused tokens, crop and opinion, whichever it has; without a `projector` the crop alone.
    With `packs` the rows of a batch stand in one, which a GPU is faster with; the answers are the same.
    """

    def __init__(
        self, family: Family, prompt: HubPrompt, projector: EvidenceProjector | None, *, packs: bool = False
    ) -> None:
        super().__init__()
        self.vlm = family.model
        self.projector = projector
        self.prompt = prompt
        self._family = family
        self._packs = packs
        attention.register()
        if family.kind not in CROSS:
            family.text.config._attn_implementation = attention.NAME
        tree = prompt.tree
        self._ids = {
            "before": torch.tensor(prompt.before, dtype=torch.int64),
            "after": torch.tensor(prompt.after, dtype=torch.int64),
            "tree": torch.from_numpy(tree.ids),
        }
        self._sees, self._depths = torch.from_numpy(tree.sees()), torch.from_numpy(tree.depths)
        self._ends = torch.from_numpy(tree.ends())
        steps = [step for slot in tree.labels for label in slot for step in label]
        self._tokens = {at: sorted({step.token for step in steps if step.at == at}) for at in tree.read_at().tolist()}
        self._deep = {step.at for step in steps if not step.first}

    @torch.inference_mode()
    def crop_tokens(self, side: int) -> int:
        """Visual tokens of a crop of `side` pixels, seen once to count them."""
        grey = torch.full((1, 3, side, side), 127, dtype=torch.uint8, device=self.device)
        return self._family.see(grey).features.shape[1]

    @property
    def row_tokens(self) -> int:
        """Tokens of text that are computed for every row."""
        own = len(self.prompt.before) if self._family.kind in CROSS else 0
        return own + len(self.prompt.after) + len(self.prompt.tree.ids)

    @property
    def crosses(self) -> bool:
        """Whether text attends to the picture in layers of their own, so that no prompt can be shared."""
        return self._family.kind in CROSS

    @property
    def text(self) -> Any:
        """The text model, without its head."""
        return self._family.text

    @property
    def width(self) -> int:
        """Width of hidden states."""
        return self._family.width

    @property
    def vocabulary(self) -> int:
        """How many tokens the head scores."""
        return int(self._family.head.weight.shape[0])

    @property
    def tokenizer(self) -> Any:
        """The model's own."""
        return self._family.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._family.head.weight.device

    def prefix_cache(self) -> attention.Prefix:
        """Keys and values of what all rows share; nothing for a family that cannot share it exactly."""
        before = self._ids["before"].to(self.device)
        if self._family.kind in CROSS or not len(before):
            return []
        causal = torch.ones(len(before), len(before), dtype=torch.bool, device=self.device).tril()
        told = self._family.text(input_ids=before[None], attention_mask=causal[None, None], use_cache=True)
        return [(layer.keys, layer.values) for layer in told.past_key_values.layers]

    def visual(self, batch: EvidenceBatch) -> VisualRows:
        """The visual tokens of a batch, in the model's width."""
        rows, dtype = RowBuilder(batch.size, self.device), self.vlm.dtype
        if self.projector is not None and len(batch.map_rows):
            rows.add(batch.map_rows, self.projector.project_maps(batch.maps).to(dtype))
        if self.projector is not None and len(batch.token_rows):
            projected = self.projector.project_tokens(batch.tokens, batch.token_index)
            rows.add_ragged(batch.token_rows, batch.token_index, projected.to(dtype))
        if len(batch.crop_rows):
            pictures = ((batch.crops * CROP_SPREAD + CROP_MEAN) * 255).round().to(torch.uint8)
            seen = self._family.see(pictures)
            rows.add(batch.crop_rows, seen.features, seen.grid, seen.blank)
        if self.projector is not None:
            everyone = torch.arange(batch.size, device=self.device)
            rows.add(everyone, self.projector.project_opinion(batch.opinion).to(dtype)[:, None])
        return rows.done()

    def forward(self, batch: EvidenceBatch, prefix: attention.Prefix | None = None) -> list[Tensor]:
        """Scores (B, options) float32 a slot, of which a softmax makes probabilities."""
        prefix = self.prefix_cache() if prefix is None else prefix
        visual = self.visual(batch)
        hidden = self._across(visual) if self._family.kind in CROSS else self._among(visual, prefix)
        return self._labels(hidden)

    def _among(self, visual: VisualRows, prefix: attention.Prefix) -> Tensor:
        """Hidden states (B, N, width) of the tree, visual tokens standing in the text."""
        if self._packs:
            return self._packed(visual, prefix)
        width, (rows, longest) = self._family.width, visual.values.shape[:2]
        words = self._words("after", "tree").expand(rows, -1, -1)
        inputs = torch.cat([visual.values[..., :width], words], 1)
        positions = self.behind(prefix) + self._positions(visual)
        given = {"position_ids": self.position_ids(positions), **self.deep_features(visual, words.shape[1])}
        mask = self._mask(visual.valid)
        with attention.shared(prefix):
            told = self._family.text(inputs_embeds=inputs, attention_mask=mask, use_cache=False, **given)
        hidden: Tensor = told.last_hidden_state
        return hidden[:, longest + len(self._ids["after"]) :]

    def _packed(self, visual: VisualRows, prefix: attention.Prefix) -> Tensor:
        """The same with all rows in one, whatever their lengths."""
        words = self._words("after", "tree").expand(len(visual.counts), -1, -1)
        inputs = torch.cat([visual.values[..., : self._family.width], words], 1)
        kept = nn.functional.pad(visual.valid, (0, words.shape[1]), value=True)
        packing = pack(kept, self._ends_within(kept.shape[1]), self.behind(prefix))
        positions = self.position_ids(self.behind(prefix) + packing.take(self._positions(visual)))
        seen = packing.there & (packing.place < visual.valid.shape[1])
        anything = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device)
        with attention.shared(prefix, packing.mask):
            told = self._family.text(
                inputs_embeds=packing.take(inputs), attention_mask=anything, use_cache=False, position_ids=positions,
                **self._deep_at(visual, seen[None]),
            )  # fmt: skip
        return packing.last(told.last_hidden_state, len(self._depths))

    def _across(self, visual: VisualRows) -> Tensor:
        """The same where text attends to visual tokens in layers of their own; text before the picture does not."""
        return self.across(visual, self._words("after", "tree"), tree=True)

    def across(self, visual: VisualRows, tail: Tensor, *, tree: bool = False) -> Tensor:
        """Hidden states of what comes last behind the picture: of the `tree` that ends `tail` (1, T, width), else all
        of `tail`, which is then read on in a line.
        """
        image = torch.tensor([self._family.image_token] * self.prompt.picture_tokens, device=self.device)
        before = len(self._ids["before"])
        words = torch.cat([self._words("before"), self._embedded(image)[None], tail], 1)
        rows, length = len(visual.counts), words.shape[1]
        linear = length - (len(self._depths) if tree else 0)
        positions = torch.arange(length, device=self.device)
        sees = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        if tree:
            positions[linear:] = linear + self._depths.to(self.device)
            sees[linear:, linear:] = self._sees.to(self.device)
        looks = (torch.arange(length, device=self.device) >= before).to(words.dtype)[None, None, :, None]
        padding = (
            torch.arange(visual.values.shape[1], device=self.device) < visual.values.shape[1] - visual.counts[:, None]
        )
        blank = (~visual.valid & ~padding).to(words.dtype)[:, None, None] * looks
        barred = torch.maximum(padding.to(words.dtype)[:, None, None], blank) * torch.finfo(words.dtype).min
        told = self._family.text(
            inputs_embeds=words.expand(rows, -1, -1),
            attention_mask=sees[None, None].expand(rows, -1, -1, -1),
            position_ids=positions[None],
            cross_attention_states=visual.values,
            cross_attention_mask=barred,
            full_text_row_masked_out_mask=looks.expand(rows, 1, -1, 1),
            use_cache=False,
        )
        hidden: Tensor = told.last_hidden_state
        return hidden[:, linear:] if tree else hidden[:, length - tail.shape[1] :]

    def behind(self, prefix: attention.Prefix) -> int:
        """How many tokens of the shared prompt stand before a row."""
        return len(self._ids["before"]) if prefix else 0

    def position_ids(self, positions: Tensor) -> Tensor:
        """(B, L, 3) as the family's text model takes them."""
        return positions.permute(2, 0, 1) if self._family.kind in GRID else positions[..., 0]

    def deep_features(self, visual: VisualRows, words: int) -> dict[str, Any]:
        """What the first layers are given besides, of a row whose visual tokens stand before so many `words`."""
        return self._deep_at(visual, nn.functional.pad(visual.valid, (0, words)))

    def _deep_at(self, visual: VisualRows, where: Tensor) -> dict[str, Any]:
        width = self._family.width
        if not self._family.deep:
            return {}
        layers = torch.split(visual.values[..., width:][visual.valid], width, -1)
        return {"visual_pos_masks": where, "deepstack_visual_embeds": layers}

    def next_logits(self, hidden: Tensor) -> Tensor:
        """Scores (vocabulary,) float32 of the next token from a hidden state (width,)."""
        logits: Tensor = self._family.head(hidden)
        return logits.float()

    def embedded(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (n, width)."""
        return self._embedded(torch.tensor(list(ids), dtype=torch.int64, device=self.device))

    def _positions(self, visual: VisualRows) -> Tensor:
        """(B, L, 3) behind the shared text: where the visual tokens stand, then text, then the tree by its depths."""
        text, depths = len(self._ids["after"]), self._depths.to(self.device)
        steps = torch.cat([torch.arange(text, device=self.device), text + depths])
        words = (visual.spans[:, None] + steps)[..., None].expand(-1, -1, 3)
        return torch.cat([visual.offsets, words], 1)

    def _mask(self, valid: Tensor) -> Tensor:
        """(B, 1, L, L): which query sees which key of its own row."""
        words = len(self._ids["after"]) + len(self._depths)
        keys = nn.functional.pad(valid, (0, words), value=True)
        return (self._sees_within(keys.shape[1])[None] & keys[:, None])[:, None]

    def _sees_within(self, length: int) -> Tensor:
        """(L, L): which place of a row sees which, the tree at its end."""
        tree = len(self._depths)
        sees = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        sees[length - tree :, length - tree :] = self._sees.to(self.device)
        return sees

    def _ends_within(self, length: int) -> Tensor:
        """(L,): up to where a place of a row is seen by those behind it."""
        ends = torch.full((length,), length, device=self.device)
        ends[length - len(self._ends) :] += self._ends.to(self.device) - len(self._ends)
        return ends

    def _labels(self, hidden: Tensor) -> list[Tensor]:
        """Scores a slot from hidden states (B, N, width) of the tree."""
        read = {at: self._read(hidden[:, at], tokens, whole=at in self._deep) for at, tokens in self._tokens.items()}
        columns = {(at, token): i for at, tokens in self._tokens.items() for i, token in enumerate(tokens)}

        def cost(label: Sequence[Step]) -> Tensor:
            return torch.stack([read[step.at][:, columns[step.at, step.token]] for step in label]).sum(0)

        return [torch.stack([cost(label) for label in slot], 1) for slot in self.prompt.tree.labels]

    def _read(self, hidden: Tensor, tokens: Sequence[int], *, whole: bool) -> Tensor:
        """Logits (B, n) float32 of a few tokens of the vocabulary, less the `whole` vocabulary's log-sum where asked.

        They are told in float32 whatever the model computes in: rounded to bfloat16, options would tie.
        """
        head, chosen = self._family.head, torch.tensor(tokens, device=self.device)
        bias = None if head.bias is None else head.bias[chosen].float()
        logits = nn.functional.linear(hidden.float(), head.weight[chosen].float(), bias)
        return logits - torch.logsumexp(head(hidden).float(), -1, keepdim=True) if whole else logits

    def _words(self, *parts: str) -> Tensor:
        return self._embedded(torch.cat([self._ids[part] for part in parts]).to(self.device))[None]

    def _embedded(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.vlm.get_input_embeddings()(ids)
        return embedded
