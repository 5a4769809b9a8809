"""The fusion layers alone: ours against PyTorch's own attention module and against one branch a modality.

    python benchmarks/fusion_step.py                     both models, batch 1 and 8, float32 and bfloat16
    python benchmarks/fusion_step.py --dtypes float32 --rounds 200

`items` are the layers of the bundled yard model, `ground` those of the `small` kitti model with random weights; both
read random tokens in the numbers their encoders make. Rivals:
- `MultiheadAttention`: the same layers of `torch.nn.MultiheadAttention` with the same weights. That it answers the same
  is checked to 1e-4 in float32 before anything is timed.
- `a branch a modality`: one cross-attention a modality, each with weights of its own, and the mean over those that are
  there, as fusers of separate branches do (UniBEV's average, Wang et al., 2024). Other mathematics: no softmax over all
  sensors, more weights. Compared by time only.

Patterns: all sensors; `dropped`: the camera's tokens are not there (eager mode); `masked`: they are there and masked
(what an exported graph does). Variants take turns within every round, in an order that moves on; times are medians and
99th percentiles, ratios medians over rounds of a rival's time by ours in the same round.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fusion.encoders.attention import Attention
from fusion.encoders.tokens import Tokens
from fusion.model.attention import FusionLayer
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import load_fusion
from fusion.model.export import token_counts
from fusion.model.memory import Memory
from fusion.model.sizes import bev_spec
from fusion.preparation.fusion_spec import ITEMS
from fusion.task import Task

AGREE = 1e-4
PATTERNS = ("all", "no camera, dropped", "no camera, masked")
OURS = "ours"
Run = Callable[[], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What the layers read: `x` and `position` (B, Q, D), a `relation` (B, heads, Q, Q) or None a layer, `keys` and
    `values` (B, S, D), `mask` (B, 1, 1, S) or None, and `spans`, which tokens are whose: (first, end) a modality.
    """

    x: Tensor
    position: Tensor
    relations: Sequence[Tensor | None]
    keys: Tensor
    values: Tensor
    mask: Tensor | None
    spans: Mapping[str, tuple[int, int]]

    def to(self, dtype: torch.dtype) -> Given:
        """The same numbers as `dtype`."""
        return replace(
            self,
            x=self.x.to(dtype),
            position=self.position.to(dtype),
            relations=[None if r is None else r.to(dtype) for r in self.relations],
            keys=self.keys.to(dtype),
            values=self.values.to(dtype),
        )


class Ours(nn.Module):
    """The fuser's layers, one after another."""

    def __init__(self, layers: Sequence[FusionLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, given: Given) -> Tensor:
        """(B, Q, D)."""
        x = given.x
        for layer, relation in zip(self.layers, given.relations, strict=True):
            x = layer(x, given.position, relation, given.keys, given.values, given.mask)
        return x


class StockLayer(nn.Module):
    """`FusionLayer` of `torch.nn.MultiheadAttention`, its weights copied."""

    def __init__(self, layer: FusionLayer) -> None:
        super().__init__()
        self.self_norm, self.cross_norm = layer.self_norm, layer.cross_norm
        self.forward_part = layer.forward_part
        self.self_attention, self.cross_attention = map(_stock, (layer.self_attention, layer.cross_attention))

    def forward(self, x: Tensor, relation: Tensor | None, absent: Tensor | None, given: Given) -> Tensor:
        """`relation` (B * heads, Q, Q) is added to the scores, `absent` (B, S) is True where no token is."""
        normal = self.self_norm(x)
        placed = normal + given.position
        x = x + self.self_attention(placed, placed, normal, attn_mask=relation, need_weights=False)[0]
        query = self.cross_norm(x) + given.position
        x = x + self.cross_attention(query, given.keys, given.values, key_padding_mask=absent, need_weights=False)[0]
        result: Tensor = x + self.forward_part(x)
        return result


class Stock(nn.Module):
    """Layers of `torch.nn.MultiheadAttention`."""

    def __init__(self, layers: Sequence[FusionLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(StockLayer, layers))

    def forward(self, given: Given) -> Tensor:
        """(B, Q, D)."""
        x, absent = given.x, None if given.mask is None else ~given.mask[:, 0, 0]
        for layer, relation in zip(self.layers, given.relations, strict=True):
            x = layer(x, None if relation is None else relation.flatten(0, 1), absent, given)
        return x


class BranchLayer(nn.Module):
    """Self-attention and feed-forward as in `FusionLayer`; cross-attention one modality after another, their mean."""

    def __init__(self, layer: FusionLayer, modalities: Sequence[str]) -> None:
        super().__init__()
        self.self_norm, self.self_attention = layer.self_norm, layer.self_attention
        self.forward_part = layer.forward_part
        self.norms = nn.ModuleDict({name: copy.deepcopy(layer.cross_norm) for name in modalities})
        self.branches = nn.ModuleDict({name: copy.deepcopy(layer.cross_attention) for name in modalities})

    def forward(self, x: Tensor, relation: Tensor | None, given: Given) -> Tensor:
        """(B, Q, D)."""
        normal = self.self_norm(x)
        placed = normal + given.position
        x = x + self.self_attention(placed, placed, normal, relation)
        read = []
        for name, (first, end) in given.spans.items():
            query = self.norms[name](x) + given.position
            mask = None if given.mask is None else given.mask[..., first:end]
            read.append(self.branches[name](query, given.keys[:, first:end], given.values[:, first:end], mask))
        x = x + torch.stack(read).mean(0)
        result: Tensor = x + self.forward_part(x)
        return result


class Branches(nn.Module):
    """One branch a modality."""

    def __init__(self, layers: Sequence[FusionLayer], modalities: Sequence[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(BranchLayer(layer, modalities) for layer in layers)

    def forward(self, given: Given) -> Tensor:
        """(B, Q, D)."""
        x = given.x
        for layer, relation in zip(self.layers, given.relations, strict=True):
            x = layer(x, relation, given)
        return x


def _stock(attention: Attention) -> nn.MultiheadAttention:
    stock = nn.MultiheadAttention(attention.query.in_features, attention.heads, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        stock.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        stock.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        stock.out_proj.load_state_dict(attention.out.state_dict())
    return stock


def given_for(model: FusionModel, batch: int, pattern: str, seed: int = 7) -> Given:
    """Random queries, and the memory that the model makes of random tokens under a pattern."""
    spec, generator = model.spec, torch.Generator().manual_seed(seed)
    tokens = {}
    for name, count in token_counts(model).items():
        valid = torch.full((batch, count), fill_value=not (name == "camera" and pattern.endswith("masked")))
        drawn = [torch.randn(batch, count, spec.width, generator=generator) for _ in range(2)]
        tokens[name] = Tokens(drawn[0], 0.3 * drawn[1], valid, torch.zeros(batch, count))
    if pattern.endswith("dropped"):
        del tokens["camera"]
    keys, values, mask, spans = _memory(model.fuser.memory, tokens, batch, dropping=not pattern.endswith("masked"))
    rows = spec.queries if spec.layout == ITEMS else cast("Any", model.fuser.queries).places.shape[1]
    rows += spec.latents
    x, position = (torch.randn(batch, rows, spec.width, generator=generator) for _ in range(2))
    shape = (batch, spec.heads, rows, rows)
    relations = [torch.randn(shape, generator=generator) if spec.layout == ITEMS else None for _ in range(spec.layers)]
    return Given(x, 0.3 * position, relations, keys, values, mask, spans)


def _memory(
    memory: Memory, tokens: Mapping[str, Tokens], batch: int, *, dropping: bool
) -> tuple[Tensor, Tensor, Tensor | None, dict[str, tuple[int, int]]]:
    """The memory's keys, values and mask, with masked tokens in it unless `dropping`; whose rows are which."""
    valid = {name: t._replace(valid=torch.ones_like(t.valid)) for name, t in tokens.items()}
    keys, values, _ = memory({name: t.cleaned() for name, t in valid.items()}, batch)
    spans, masks, at = {}, [], 0
    for name in memory.sensors:
        # A modality alone, beside the other modalities' null tokens.
        only = {name: valid[name].cleaned()} if name in valid else {}
        count = memory(only, batch)[0].shape[1] - len(memory.sensors) + 1
        spans[name] = (at, at + count)
        there = bool(tokens[name].valid.all()) if name in tokens else False
        masks.append(torch.tensor([True, *[there] * (count - 1)]).expand(batch, -1))
        at += count
    mask = torch.cat(masks, 1)
    return keys, values, None if dropping or bool(mask.all()) else mask[:, None, None], spans


def interleaved(runs: Mapping[str, Run], rounds: int, bar: tqdm[Any] | None = None) -> dict[str, list[float]]:
    """Milliseconds of every run a round, runs taking turns in an order that moves on by one each round."""
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for run in runs.values():
        for _ in range(3):
            run()
    for index in range(rounds):
        at = index % len(names)
        for name in names[at:] + names[:at]:
            started = time.perf_counter_ns()
            runs[name]()
            times[name].append((time.perf_counter_ns() - started) / 1e6)
        if bar is not None:
            bar.update()
    return times


def models() -> dict[str, FusionModel]:
    """The bundled yard model and a ground model of size `small`, in evaluation mode."""
    torch.manual_seed(7)
    folder = Path(__file__).resolve().parents[1] / "fusion" / "weights" / "yard"
    return {"items": load_fusion(folder), "ground": build_fusion(bev_spec(Task.load("kitti"), "small")).eval()}


def variants(model: FusionModel) -> dict[str, nn.Module]:
    """Ours and its rivals, of the same layers."""
    layers = [cast("FusionLayer", layer) for layer in model.fuser.layers]
    made: dict[str, nn.Module] = {
        OURS: Ours(layers),
        "MultiheadAttention": Stock(layers),
        "a branch a modality": Branches(layers, list(model.spec.sensors)),
    }
    return {name: copy.deepcopy(module).eval() for name, module in made.items()}


def check(modules: Mapping[str, nn.Module], given: Given) -> float:
    """Largest difference of the same layers of `MultiheadAttention`. Raises `AssertionError` beyond `AGREE`."""
    apart = float((modules[OURS](given) - modules["MultiheadAttention"](given)).abs().max())
    assert apart < AGREE, f"MultiheadAttention answers differently: {apart:.1e}"
    return apart


@torch.inference_mode()
def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = [(*case, batch) for case in models().items() for batch in arguments.batches]
    lines, worst = [], 0.0
    total = len(cases) * len(PATTERNS) * len(arguments.dtypes) * arguments.rounds
    with tqdm(total=total, unit="round") as bar:
        for kind, model, batch in cases:
            modules = variants(model)
            for pattern in PATTERNS:
                given = given_for(model, batch, pattern)
                worst = max(worst, check(modules, given))
                for name in arguments.dtypes:
                    dtype = getattr(torch, name)
                    cast_modules = {key: copy.deepcopy(module).to(dtype) for key, module in modules.items()}
                    same = given.to(dtype)
                    bar.set_description(f"{kind}, {pattern}, batch {batch}, {name}")
                    runs = {key: lambda m=module, g=same: m(g) for key, module in cast_modules.items()}
                    times = interleaved(runs, arguments.rounds, bar)
                    sizes = f"{given.x.shape[1]}, {given.keys.shape[1]}"
                    lines.append(_line((kind, sizes, pattern, str(batch), name), times))
    titles = ["layers", "queries, tokens", "sensors", "batch", "type", *modules]
    ratios = [f"{name} / ours" for name in modules if name != OURS]
    print(f"\n{arguments.threads} threads, milliseconds p50 (p99) of {arguments.rounds} rounds; MultiheadAttention")
    print(f"answers the same within {worst:.1e}; a branch a modality computes something else\n")
    print(f"| {' | '.join([*titles, *ratios])} |\n|{'---|' * (len(titles) + len(ratios))}")
    print("\n".join(lines))


def _line(labels: Sequence[str], times: Mapping[str, Sequence[float]]) -> str:
    cells = [f"{np.median(took):.2f} ({np.percentile(took, 99):.2f})" for took in times.values()]
    ours = np.array(times[OURS])
    ratios = [f"{np.median(np.array(took) / ours):.2f}" for name, took in times.items() if name != OURS]
    return f"| {' | '.join([*labels, *cells, *ratios])} |"


if __name__ == "__main__":
    main()
