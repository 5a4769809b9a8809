"""What the maps over the ground should have shown, and what it costs that they did not.

Targets as CenterPoint draws them (Yin et al., 2021): a Gaussian a centre, as wide as the object; the focal loss is
CornerNet's (Law & Deng, 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fusion.model.centres import BevOutputs
from fusion.preparation.pillars import PillarGrid

_LEAST_SPREAD = 0.8
"""Standard deviation, in cells, of the narrowest Gaussian."""
_SPREAD_OF_SIZE = 1 / 6


@dataclass(frozen=True, slots=True, eq=False)
class CentreTargets:
    """`heatmap` (B, C, R, K) in 0..1; for each truth object `cell` (B, T) of the flat map, `there` (B, T) bool: it is
    of a class and on the map; `box` (B, T, 8) as the maps tell it; `velocity` (B, T, 2) and `moves` (B, T) bool: known.
    """

    heatmap: Tensor
    cell: Tensor
    there: Tensor
    box: Tensor
    velocity: Tensor
    moves: Tensor

    @property
    def counts(self) -> Tensor:
        """How many objects have a place and how many a velocity: (2,) float32."""
        return torch.stack([self.there.sum(), self.moves.sum()]).float()


def centre_targets(batch: Mapping[str, Tensor], grid: PillarGrid, size: tuple[int, int], classes: int) -> CentreTargets:
    """Targets of a batch with `truth_label` (B, T), `truth_box3d` (B, T, 8), and, if velocities are known,
    `truth_velocity` (B, T, 2) and `truth_has_velocity` (B, T).
    """
    rows, columns = size
    label, box = batch["truth_label"], batch["truth_box3d"].float()
    cell_x, cell_y = grid.rows * grid.cell / rows, grid.columns * grid.cell / columns
    x, y = (box[..., 0] - grid.x) / cell_x, (box[..., 1] - grid.y) / cell_y  # (B, T) cells
    there = (label >= 0) & (x >= 0) & (x < rows) & (y >= 0) & (y < columns)
    row, column = x.clamp(0, rows - 1).long(), y.clamp(0, columns - 1).long()
    offset = torch.stack([(x - row - 0.5) * cell_x, (y - column - 0.5) * cell_y], -1)
    spread = (box[..., 3:5].exp().amax(-1) / min(cell_x, cell_y) * _SPREAD_OF_SIZE).clamp(min=_LEAST_SPREAD)
    known = batch.get("truth_has_velocity", torch.zeros_like(there))
    velocity = batch.get("truth_velocity", box.new_zeros(*label.shape, 2))
    return CentreTargets(
        _drawn(row, column, spread, label, there, (classes, rows, columns)),
        row * columns + column,
        there,
        torch.cat([offset, box[..., 2:]], -1),
        velocity.float(),
        there & known,
    )


def _drawn(
    row: Tensor, column: Tensor, spread: Tensor, label: Tensor, there: Tensor, shape: tuple[int, int, int]
) -> Tensor:
    classes, rows, columns = shape
    down = torch.arange(rows, device=row.device) - row[..., None]  # (B, T, R)
    across = torch.arange(columns, device=row.device) - column[..., None]
    scale = 2 * spread[..., None].square()
    bell = (torch.exp(-down.square() / scale)[..., None]) * torch.exp(-across.square() / scale)[..., None, :]
    bell = bell * there[..., None, None]
    heat = bell.new_zeros(len(row), classes, rows, columns)
    for kind in range(classes):
        of_kind = bell * (label == kind)[..., None, None]
        if of_kind.shape[1]:
            heat[:, kind] = of_kind.amax(1)
    return heat


def centre_losses(maps: BevOutputs, targets: CentreTargets, counts: Tensor | None = None) -> dict[str, Tensor]:
    """Mean losses () by name: `heatmap` an object, `box` and `velocity` an object that has one.

    `counts` (2,), positive, says over how many objects; default: the targets' own. With the mean of several batches'
    counts, the mean of their losses is the loss of all of them together.
    """
    objects, moving = targets.counts.clamp(min=1) if counts is None else counts
    return {
        "heatmap": focal_loss(maps.heatmap.float(), targets.heatmap, objects),
        "box": _regression(maps.box, targets.box, targets.cell, targets.there, objects),
        "velocity": _regression(maps.velocity, targets.velocity, targets.cell, targets.moves, moving),
    }


def focal_loss(logits: Tensor, heat: Tensor, objects: Tensor) -> Tensor:
    """CornerNet's penalty-reduced focal loss with its powers 2 and 4, a mean over `objects` (), positive."""
    chance = logits.sigmoid()
    centre = heat >= 1.0
    hit = (1 - chance).square() * functional.logsigmoid(logits)
    miss = (1 - heat).pow(4) * chance.square() * functional.logsigmoid(-logits)
    return -torch.where(centre, hit, miss).sum() / objects


def _regression(maps: Tensor, wanted: Tensor, cell: Tensor, there: Tensor, objects: Tensor) -> Tensor:
    channels = maps.shape[1]
    flat = maps.float().flatten(2)
    found = flat.gather(2, cell[:, None].expand(-1, channels, -1)).transpose(1, 2)  # (B, T, channels)
    error = functional.smooth_l1_loss(found, wanted[..., :channels], beta=0.1, reduction="none").sum(-1)
    return (error * there).sum() / objects
