"""One row read up to some words and on from there, token by token: the same row that labels are scored behind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusion.review.batch import EvidenceBatch
from fusion.review.hub import attention
from fusion.review.hub.network import HubNetwork


class Continuation:
    """`logits` (vocabulary,) float32 say what comes next; `follow` takes a token and brings them up to date.

    The prompt's keys and values are the shared ones, the row's own are kept from token to token. A family that shares
    no prompt reads the whole row anew for every token.
    """

    def __init__(
        self, network: HubNetwork, batch: EvidenceBatch, prefix: attention.Prefix, words: Sequence[int]
    ) -> None:
        from transformers import DynamicCache

        if batch.size != 1:
            raise ValueError(f"{batch.size} rows; one is continued at a time")
        self._network = network
        self._prefix = prefix
        self._visual = network.visual(batch)
        self._words = list(words)
        self._cache = None if network.crosses else DynamicCache()
        self.logits = self._read_again() if self._cache is None else self._begin()

    def follow(self, token: int) -> None:
        """Take `token` as the next."""
        self._words.append(token)
        self.logits = self._read_again() if self._cache is None else self._step(token)

    def _begin(self) -> Tensor:
        network, visual = self._network, self._visual
        words = network.embedded([*network.prompt.after, *self._words])
        inputs = torch.cat([visual.values[..., : network.width], words[None]], 1)
        self._length, self._valid = inputs.shape[1], nn.functional.pad(visual.valid, (0, len(words)), value=True)
        steps = torch.arange(len(words), device=network.device)
        told = (visual.spans[:, None] + steps)[..., None].expand(-1, -1, 3)
        self._at = int(visual.spans[0]) + len(words)
        sees = torch.ones(self._length, self._length, dtype=torch.bool, device=network.device).tril()
        mask = (sees[None] & self._valid[:, None])[:, None]
        return self._told(inputs, torch.cat([visual.offsets, told], 1), mask, seen=True)

    def _step(self, token: int) -> Tensor:
        self._valid = nn.functional.pad(self._valid, (0, 1), value=True)
        position = torch.full((1, 1, 3), self._at, device=self._network.device)
        self._at += 1
        return self._told(self._network.embedded([token])[None], position, self._valid[:, None, None], seen=False)

    def _told(self, inputs: Tensor, positions: Tensor, mask: Tensor, *, seen: bool) -> Tensor:
        """`positions` (1, L, 3) are behind the shared prompt; `seen` where visual tokens are among the inputs."""
        network, given = self._network, {}
        if seen:
            given = network.deep_features(self._visual, inputs.shape[1] - self._visual.values.shape[1])
        behind = network.behind(self._prefix)
        with attention.shared(self._prefix):
            told = network.text(
                inputs_embeds=inputs,
                attention_mask=mask,
                position_ids=network.position_ids(behind + positions),
                past_key_values=self._cache,
                use_cache=True,
                **given,
            )
        return network.next_logits(told.last_hidden_state[0, -1])

    def _read_again(self) -> Tensor:
        network = self._network
        tail = network.embedded([*network.prompt.after, *self._words])[None]
        return network.next_logits(network.across(self._visual, tail)[0, -1])
