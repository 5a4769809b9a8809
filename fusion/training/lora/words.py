"""New words of a small reviewer: rows of its embedding and of its head for a task whose words it does not have.

A pretrained model can write any task's words. `reviewer-mini` knows those of its own: for another task its vocabulary
grows, every old word keeping its id. Only those rows learn that answers hang on: what stands at the places where they
are read (the markers), and the options that were not asked before, of new words or of old ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fusion.review.model import ReviewerNetwork
from fusion.review.prompt import PromptIds, build_tokenizer
from fusion.task import Task


class Rows(nn.Module):
    """Some rows of a weight, whose other rows are given; a parametrization of it."""

    weight: Tensor
    rows: Tensor

    def __init__(self, weight: Tensor, rows: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone(), persistent=False)
        self.register_buffer("rows", torch.tensor(list(rows), dtype=torch.int64), persistent=False)

    def forward(self, own: Tensor) -> Tensor:
        """(n, width) → the whole weight."""
        return self.weight.index_copy(0, self.rows, own)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What `forward` makes `weight` of."""
        return weight[self.rows]


@dataclass(frozen=True, slots=True, eq=False)
class NewWords:
    """A vocabulary that grew: the parts of the model of which rows may learn, and which rows those are.

    `markers` were not read before and `options` not answered before; ids below `known` are of words that it had.
    """

    embedding: nn.Embedding
    head: nn.Linear
    known: int
    markers: tuple[int, ...]
    options: tuple[int, ...]

    def learn(self) -> dict[str, nn.Parameter]:
        """Make the rows of markers and options parameters of their own, and give them."""
        learnt = {}
        for name, part, rows in (("markers", self.embedding, self.markers), ("options", self.head, self.options)):
            part.requires_grad_(requires_grad=False)
            if rows:
                parametrize.register_parametrization(part, "weight", Rows(part.weight, rows))
                own: Any = part.get_parameter("parametrizations.weight.original")
                own.requires_grad = True
                learnt[f"words.{name}"] = own
        return learnt

    def settle(self) -> None:
        """Make them plain rows of the weights again."""
        for part in (self.embedding, self.head):
            if parametrize.is_parametrized(part, "weight"):
                parametrize.remove_parametrizations(part, "weight")
                part.requires_grad_(requires_grad=False)

    def tensors(self) -> dict[str, Tensor]:
        """The new rows, `embedding` and `head` (n, width), and the rows of known words that learnt, by their ids:
        `head_ids` (m,) with `head_rows` (m, width), the same of the embedding, where there are some.
        """
        told: dict[str, Tensor] = {}
        for name, (part, ids) in self._parts().items():
            weight = part.weight.detach()
            told[name] = weight[self.known :].cpu().clone()
            if ids:
                told[f"{name}_ids"] = torch.tensor(ids)
                told[f"{name}_rows"] = weight[list(ids)].cpu().clone()
        return told

    @torch.no_grad()
    def set(self, tensors: Mapping[str, Tensor]) -> bool:
        """Take what `tensors` gave; whether it is of these words. Adapters were once written without the rows of known
        words, which then stay as they are.
        """
        for name, (part, ids) in self._parts().items():
            new, told = tensors.get(name, part.weight[:0]), tensors.get(f"{name}_ids")
            rows = tensors.get(f"{name}_rows", new[:0])
            if new.shape != part.weight[self.known :].shape:
                return False
            if told is not None and (told.tolist() != list(ids) or rows.shape != part.weight[: len(ids)].shape):
                return False
        for name, (part, ids) in self._parts().items():
            if name in tensors:
                part.weight[self.known :] = tensors[name].to(part.weight)
            if f"{name}_ids" in tensors:
                part.weight[list(ids)] = tensors[f"{name}_rows"].to(part.weight)
        return True

    def _parts(self) -> dict[str, tuple[nn.Embedding | nn.Linear, tuple[int, ...]]]:
        """Each part of the model by name, with the ids of those rows of known words in it that learn."""
        ids = {"embedding": self.markers, "head": self.options}
        parts: dict[str, nn.Embedding | nn.Linear] = {"embedding": self.embedding, "head": self.head}
        return {name: (part, tuple(i for i in ids[name] if i < self.known)) for name, part in parts.items()}


def grow(network: ReviewerNetwork, tokenizer: Any, asked: Task, task: Task) -> tuple[ReviewerNetwork, Any, NewWords]:
    """The network, whose model grows in place, with the prompt of `task` instead of that `asked` until now; its
    tokenizer; and the new words, drawn (torch's seed) with the mean and spread of the known ones.
    """
    grown = build_tokenizer(task, tokenizer)
    ids, known = PromptIds.of(task, grown), len(tokenizer)
    old = PromptIds.of(asked, tokenizer)
    if len(grown) > known:
        _resize(network.vlm, len(grown), known)
    options = sorted({i for slot in ids.options for i in slot} - {i for slot in old.options for i in slot})
    markers = tuple(sorted(set(ids.markers) - set(old.markers)))
    words = NewWords(network.vlm.get_input_embeddings(), network.vlm.lm_head, known, markers, tuple(options))
    return ReviewerNetwork(network.vlm, network.projector, ids).to(network.device).eval(), grown, words


@torch.no_grad()
def _resize(vlm: Any, count: int, known: int) -> None:
    vlm.resize_token_embeddings(count, mean_resizing=False)
    for part in (vlm.get_input_embeddings(), vlm.lm_head):
        before = part.weight[:known].float().cpu()
        noise = torch.randn(count - known, before.shape[1])
        part.weight[known:] = (before.mean(0) + noise * before.std(0)).to(part.weight)
