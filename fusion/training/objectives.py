"""Self-supervised pretraining of the fusion model on scenes nobody has labelled: `fusion pretrain`.

`masked`: blocks of the camera's maps and cells of the ground are hidden, sometimes a whole sensor, and told from what
is left of all sensors (masked autoencoders, He et al., 2022; across sensors as in Bachmann et al., 2022).
`contrastive`: two views of a scene, and its camera and its LiDAR, must lie nearer to each other than to other scenes
(SimCLR's NT-Xent, Chen et al., 2020).
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.camera import CameraEncoder
from fusion.encoders.tokens import Tokens
from fusion.model.build import FusionModel
from fusion.model.heads import two_layers
from fusion.model.memory import pooled
from fusion.training.shaking import shake

OBJECTIVES = ("masked", "contrastive")
_HIDDEN = 0.6
"""Share of blocks that are hidden of a sensor that is not hidden whole."""
_WHOLE = 0.3
"""Share of samples whose camera is hidden whole, and as many whose LiDAR is."""
_ASKED_BLOCKS = 96
"""Hidden blocks a sensor that are told in a step."""
_TEMPERATURE = 0.1
_EMBEDDING = 64
_CELL_FACTS = 4


class Hidden(NamedTuple):
    """Which blocks of 2x2 tokens are hidden: `camera` (B, rows / 2, columns / 2) and `lidar` likewise, bool."""

    camera: Tensor
    lidar: Tensor


class MaskedModelling(nn.Module):
    """Tells hidden blocks: the trunk's codes of a camera block; of a cell of the ground whether anything is in it, how
    high it reaches, how low, and how bright it is.
    """

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        spec = model.spec
        codes = 4 * len(spec.steps[0]) + len(spec.steps[1])
        self.seed = nn.Parameter(torch.randn(2, spec.width) * 0.02)
        self.camera = two_layers(spec.width, codes)
        self.lidar = two_layers(spec.width, _CELL_FACTS)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """The mean loss over the hidden blocks of a batch that has camera and LiDAR throughout."""
        hidden = self.draw(len(batch["points"]), generator)
        sensors = self.tokens(batch, hidden)
        fuser = self.model.fuser
        count = len(batch["points"])
        keys, values, mask = fuser.memory({name: t.cleaned() for name, t in sensors.items()}, count)
        places = {"camera": _block_positions(sensors["camera"], self.model.spec.camera_map)}
        places["lidar"] = _block_positions(sensors["lidar"], self.model.spec.grid.tokens)
        chosen = {name: _some(getattr(hidden, name).flatten(1), generator) for name in places}
        position = torch.cat([_picked(places[name], chosen[name][0]) for name in places], 1)
        asked = chosen["camera"][0].shape[1]
        counts = torch.tensor([asked, chosen["lidar"][0].shape[1]], device=position.device)
        x = self.seed.repeat_interleave(counts, 0).expand(count, -1, -1)
        for layer in fuser.layers:
            x = layer(x, position, None, keys, values, mask)
        x = fuser.final(x)
        losses = [
            self._camera_loss(x[:, :asked], batch, *chosen["camera"]),
            self._lidar_loss(x[:, asked:], batch, *chosen["lidar"]),
        ]
        return torch.stack(losses).sum()

    def draw(self, count: int, generator: torch.Generator) -> Hidden:
        """Which blocks of `count` samples are hidden."""
        spec, device = self.model.spec, self.seed.device
        whole = torch.rand(count, generator=generator, device=device)
        sizes = [spec.camera_map, spec.grid.tokens]
        parts = []
        for number, (rows, columns) in enumerate(sizes):
            drawn = torch.rand(count, rows // 2, columns // 2, generator=generator, device=device) < _HIDDEN
            all_of_it = (whole >= number * _WHOLE) & (whole < (number + 1) * _WHOLE)
            parts.append(drawn | all_of_it[:, None, None])
        return Hidden(*parts)

    def tokens(self, batch: dict[str, Tensor], hidden: Hidden) -> dict[str, Tokens]:
        """Tokens of what is left: hidden maps and points are taken away before they are encoded."""
        spec = self.model.spec
        coarse = hidden.camera[:, None, None]
        fine = coarse.repeat_interleave(2, 3).repeat_interleave(2, 4)
        cells = _over_grid(hidden.lidar, spec.grid.tokens)
        off_grid = functional.pad(cells.flatten(1), (0, 1), value=True)
        there = batch["points_valid"] & ~off_grid.gather(1, self._cell(batch["points"]))
        left = batch | {
            "p4": batch["p4"].masked_fill(fine, 0),
            "p5": batch["p5"].masked_fill(coarse, 0),
            "points_valid": there,
            "speech_available": torch.zeros_like(batch["speech_available"]),
        }
        sensors, _, _ = self.model.encode(left)
        seen = {"camera": ~fine.flatten(1), "lidar": ~cells.flatten(1)}
        return {name: t._replace(valid=t.valid & seen[name]) for name, t in sensors.items()}

    def _cell(self, points: Tensor) -> Tensor:
        """The token cell (B, n) of each point, row by row; rows * columns off the grid."""
        grid = self.model.spec.grid
        rows, columns = grid.tokens
        side = grid.cell * grid.stride
        row = torch.floor((points[..., 0] - grid.x) / side)
        column = torch.floor((points[..., 1] - grid.y) / side)
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        return torch.where(inside, row * columns + column, rows * columns).long()

    def _camera_loss(self, x: Tensor, batch: dict[str, Tensor], index: Tensor, counts: Tensor) -> Tensor:
        encoder = cast("CameraEncoder", self.model.encoders["camera"])
        fine = batch["p4"][:, 0].float() * encoder.scale4
        coarse = batch["p5"][:, 0].float() * encoder.scale5
        blocks = functional.pixel_unshuffle(fine, 2)  # (B, 4 * K, rows / 2, columns / 2)
        codes = torch.cat([blocks, coarse], 1).flatten(2).transpose(1, 2)
        error = functional.smooth_l1_loss(self.camera(x), _picked(codes, index), reduction="none").mean(-1)
        return _mean(error, counts)

    def _lidar_loss(self, x: Tensor, batch: dict[str, Tensor], index: Tensor, counts: Tensor) -> Tensor:
        facts = _picked(self.facts(batch), index)  # (B, n, 4)
        told = self.lidar(x)
        occupied = functional.binary_cross_entropy_with_logits(told[..., 0], facts[..., 0], reduction="none")
        shape = functional.smooth_l1_loss(told[..., 1:], facts[..., 1:], reduction="none").mean(-1)
        return _mean(occupied, counts) + 2 * _mean(shape, counts * facts[..., 0])

    def facts(self, batch: dict[str, Tensor]) -> Tensor:
        """Of every block of the ground whether it holds a point, its highest and lowest z in metres, and its mean
        intensity: (B, blocks, 4), the last three 0 where it is empty.
        """
        rows, columns = self.model.spec.grid.tokens
        cell = self._cell(batch["points"])
        row = torch.div(cell, columns, rounding_mode="floor") // 2
        column = cell % columns // 2
        count = rows // 2 * (columns // 2)
        inside = batch["points_valid"] & (cell < rows * columns) & (row < rows // 2) & (column < columns // 2)
        block = torch.where(inside, row * (columns // 2) + column, count)
        z, light = batch["points"][..., 2], batch["points"][..., 3]
        many = z.new_zeros(len(z), count + 1).scatter_add(1, block, torch.ones_like(z))
        bright = z.new_zeros(len(z), count + 1).scatter_add(1, block, light) / many.clamp(min=1)
        high = z.new_full((len(z), count + 1), -9.0).scatter_reduce(1, block, z, "amax")
        low = z.new_full((len(z), count + 1), 9.0).scatter_reduce(1, block, z, "amin")
        full = (many > 0).float()
        return (torch.stack([torch.ones_like(full), high, low, bright], -1) * full[..., None])[:, :count]


class Contrastive(nn.Module):
    """Draws a scene's views together."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.project = two_layers(model.spec.width, _EMBEDDING)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """NT-Xent between two shaken views, and between the camera and the LiDAR, of the scenes of a batch."""
        quiet = batch | {"speech_available": torch.zeros_like(batch["speech_available"])}
        other = {name: value.clone() for name, value in quiet.items()}
        shake(other, generator)
        nothing = {name: torch.zeros_like(quiet[f"{name}_available"]) for name in ("camera", "lidar")}
        camera = quiet | {"lidar_available": nothing["lidar"]}
        lidar = other | {"camera_available": nothing["camera"], "box_valid": torch.zeros_like(quiet["box_valid"])}
        views = [self._embedding(view) for view in (quiet, other, camera, lidar)]
        return nt_xent(views[0], views[1]) + nt_xent(views[2], views[3])

    def _embedding(self, batch: dict[str, Tensor]) -> Tensor:
        outputs, _, _ = self.model(batch)
        embedding: Tensor = self.project(outputs.latents.mean(1)).float()
        return embedding


def nt_xent(first: Tensor, second: Tensor, temperature: float = _TEMPERATURE) -> Tensor:
    """The normalised, temperature-scaled cross-entropy of Chen et al. (2020): row i of `first` and of `second` (B, D)
    belong together, all other 2B - 2 rows are their negatives.
    """
    z = functional.normalize(torch.cat([first, second]), dim=1)
    likeness = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.arange(2 * count, device=z.device).roll(count)
    return functional.cross_entropy(likeness, partner)


def _over_grid(blocks: Tensor, size: tuple[int, int]) -> Tensor:
    """`blocks` (B, rows / 2, columns / 2) on the tokens they hold (B, rows, columns); an odd last row or column, which
    the memory does not read, is hidden.
    """
    whole = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return functional.pad(whole, (0, size[1] - whole.shape[2], 0, size[0] - whole.shape[1]), value=True)


def _block_positions(tokens: Tokens, size: tuple[int, int]) -> Tensor:
    return pooled(tokens.positions, size)


def _some(hidden: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices (B, n) of up to `_ASKED_BLOCKS` of the blocks that are True in `hidden` (B, blocks), and 1 for each that
    really is, 0 for those that fill up.
    """
    keys = torch.rand(hidden.shape, generator=generator, device=hidden.device) + hidden.float()
    index = keys.topk(min(_ASKED_BLOCKS, hidden.shape[1]), dim=1).indices
    return index, hidden.gather(1, index).float()


def _picked(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
