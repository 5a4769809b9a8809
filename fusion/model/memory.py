"""What the queries read: all sensors' tokens in one sequence, and the record of which sensors those were.

Absence is real: a token that is not valid is masked in an exported graph, and left out in eager mode where all
samples lack the same ones, so that kernels without masks stay usable. A learned null token a modality keeps every row
readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.tokens import Tokens


class Provenance(NamedTuple):
    """`present` (B, S) bool and `age` (B, S) float32 seconds of each sensor, in the order of the memory's modalities;
    0 for a sensor that is not there.
    """

    present: Tensor
    age: Tensor


class Memory(nn.Module):
    """Joins the modalities. `sensors` says how many sensors each has; `maps` which modalities' tokens are maps of
    (rows, columns) a sensor, which are read at twice their stride.
    """

    def __init__(self, sensors: Mapping[str, int], maps: Mapping[str, tuple[int, int]], width: int) -> None:
        super().__init__()
        self.sensors, self.maps = dict(sensors), dict(maps)
        self.modality = nn.Parameter(torch.randn(len(self.sensors), width) * 0.02)
        self.null_token = nn.Parameter(torch.randn(len(self.sensors), width) * 0.02)
        self.age = nn.Linear(2, width)

    def forward(self, tokens: Mapping[str, Tokens], batch: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values (B, S, D) of cleaned `tokens`, and their mask (B, 1, 1, S): True may be read, None all."""
        keys, values, masks = [], [], []
        for index, name in enumerate(self.sensors):
            null = self.null_token[index].expand(batch, 1, -1)
            keys.append(null + self.modality[index])
            values.append(null)
            masks.append(torch.ones(batch, 1, dtype=torch.bool, device=null.device))
            if name not in tokens:
                continue
            read = self._thinned(name, tokens[name])
            age = self.age(torch.stack([read.age, torch.exp(-2 * read.age)], -1).to(read.features.dtype))
            keys.append(read.features + read.positions + self.modality[index] + age)
            values.append(read.features)
            masks.append(read.valid)
        return _dropped(torch.cat(keys, 1), torch.cat(values, 1), torch.cat(masks, 1))

    def provenance(self, tokens: Mapping[str, Tokens], batch: int) -> Provenance:
        """Which sensors are in the memory of cleaned `tokens`, and how old."""
        present, ages = [], []
        for name, count in self.sensors.items():
            if name in tokens:
                valid = tokens[name].valid.view(batch, count, -1)
                total = tokens[name].age.view(batch, count, -1).sum(2)
                present.append(valid.any(2))
                ages.append(total / valid.sum(2).clamp(min=1))
            else:
                present.append(self.modality.new_zeros(batch, count, dtype=torch.bool))
                ages.append(self.modality.new_zeros(batch, count, dtype=torch.float32))
        return Provenance(torch.cat(present, 1), torch.cat(ages, 1))

    def _thinned(self, name: str, tokens: Tokens) -> Tokens:
        if name not in self.maps:
            return tokens
        size, count = self.maps[name], self.sensors[name]
        return Tokens(
            pooled(tokens.features, size, count),
            pooled(tokens.positions, size, count),
            _every_second(tokens.valid, size, count),
            _every_second(tokens.age, size, count),
        )


def pooled(tokens: Tensor, size: tuple[int, int], count: int = 1) -> Tensor:
    """Means of 2x2 neighbours in each of `count` maps: (B, count * rows * columns, D) of maps of `size` →
    (B, count * (rows/2) * (columns/2), D); an odd last row or column is left out.
    """
    batch, _, width = tokens.shape
    planes = tokens.reshape(batch * count, size[0] * size[1], width).transpose(1, 2).reshape(batch * count, -1, *size)
    means: Tensor = functional.avg_pool2d(planes, 2).flatten(2).transpose(1, 2)
    return means.reshape(batch, -1, width)


def _every_second(values: Tensor, size: tuple[int, int], count: int) -> Tensor:
    rows, columns = size[0] // 2 * 2, size[1] // 2 * 2
    maps = values.reshape(len(values), count, *size)
    return maps[:, :, :rows:2, :columns:2].flatten(1)


def _dropped(keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Tokens that no sample of the batch can read are left out; with none masked after that, there is no mask."""
    if torch.compiler.is_compiling():
        return keys, values, mask[:, None, None]
    used = mask.any(0)
    if not bool(used.all()):
        keys, values, mask = keys[:, used], values[:, used], mask[:, used]
    return keys, values, None if bool(mask.all()) else mask[:, None, None]
