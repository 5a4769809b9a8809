"""What the fusion model is compared with: the same encoders and heads, joined in simpler ways, of the same size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fusion.encoders.attention import FeedForward
from fusion.encoders.tokens import Tokens
from fusion.model.build import FusionModel, build_fusion
from fusion.model.items import ItemQueries, Items
from fusion.model.queries import Queries
from fusion.model.window import box_window, read_windows
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.sounds import HeardEars

SAME_OBJECT_M = 1.0
"""Late fusion takes two answers for one object when their centres are nearer than this."""


class ConcatQueries(ItemQueries):
    """Each item's reads of all sensors side by side, zeros for what is not there, through one layer."""

    join: nn.Linear

    def forward(self, tokens: Mapping[str, Tokens], items: Items) -> Queries:
        """As `ItemQueries`, without relations."""
        places = torch.where(items.box_valid[..., None], items.item_place, self.anchors)
        valid = items.box_valid[..., None]
        seed = torch.where(valid, self._seed(items, places), self.anchor_seed)
        positions = self.plane(places[..., :2]) + self.ray(items.box_rays) * valid
        return Queries(self._read(tokens, items, places, seed + positions), positions, places)

    def _read(self, tokens: Mapping[str, Tokens], items: Items, places: Tensor, x: Tensor) -> Tensor:
        parts = [x, *(torch.zeros_like(x) for _ in range(4))]
        if (camera := tokens.get("camera")) is not None:
            read = self.camera_read(read_windows(camera.features, box_window(items.boxes, *self.camera_map, 3)))
            parts[1] = read * (items.box_valid[..., None] & camera.any_valid())
        if (lidar := tokens.get("lidar")) is not None:
            there = lidar.any_valid()
            parts[2] = self.lidar_read(read_windows(lidar.features, self._ground_window(places))) * there
            parts[3] = self.item_points(items.item_points, items.item_points_valid) * there
        if (speech := tokens.get("speech")) is not None:
            parts[4] = (self.speech_read(speech.features[:, :1]) * speech.any_valid()).expand_as(x)
        joined: Tensor = self.join(torch.cat(parts, -1))
        return joined


class ConcatLayer(nn.Module):
    """In the place of a fusion layer: a feed-forward network over each query and the mean of all tokens."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.context = nn.Linear(width, width)
        self.forward_part = FeedForward(width, hidden, dropout)

    def forward(
        self, x: Tensor, _position: Tensor, _relation: Tensor | None, _keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """As `FusionLayer`; keys, positions and relations are not read."""
        weight = values.new_ones(values.shape[:2]) if mask is None else mask[:, 0, 0].to(values.dtype)
        mean = (values * weight[..., None]).sum(1, keepdim=True) / weight.sum(1)[:, None, None]
        result: Tensor = x + self.forward_part(x + self.context(mean))
        return result


def count(module: nn.Module) -> int:
    """Parameters of `module`."""
    return sum(p.numel() for p in module.parameters())


def fused(spec: FusionSpec, positions: Tensor) -> FusionModel:
    """The product's model, with frozen ears."""
    return _listening(build_fusion(spec), positions)


def concatenated(spec: FusionSpec, positions: Tensor) -> FusionModel:
    """Concatenation, its layers as wide as makes it as large as `fused`."""
    wanted, model = count(fused(spec, positions)), _listening(build_fusion(spec), positions)
    queries = model.fuser.queries
    queries.__class__ = ConcatQueries
    queries.join = nn.Linear(5 * spec.width, spec.width)
    del queries.relation
    hidden = 2 * spec.hidden
    while True:
        layers = [ConcatLayer(spec.width, hidden, spec.dropout) for _ in range(spec.layers)]
        model.fuser.layers = nn.ModuleList(layers)
        if count(model) >= wanted:
            return model
        hidden += 16


def half_size(spec: FusionSpec, positions: Tensor) -> FusionModel:
    """One of the two models of late fusion: narrower, so that both together are about as large as `fused`."""
    narrow = replace(spec, width=64, hidden=176)
    return _listening(build_fusion(narrow), positions)


def _listening(model: FusionModel, positions: Tensor) -> FusionModel:
    model.encoders["speech"] = HeardEars(positions, len(model.spec.intents), model.spec.width)
    return model


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says of scenes: `label` (B, Q, C + 1), `condition` (B, Q, K) and `asked` (B, Q) probabilities,
    `centre` (B, Q, 2) metres in the ego frame, `intent` (B, I) probabilities.
    """

    label: Tensor
    condition: Tensor
    asked: Tensor
    centre: Tensor
    intent: Tensor


@torch.inference_mode()
def answers(model: FusionModel, batch: Mapping[str, Tensor]) -> Answers:
    """The answers of one model."""
    outputs, _, _ = model(batch)
    return Answers(
        outputs.label_logits.softmax(-1),
        outputs.condition_logits.softmax(-1),
        outputs.asked_logits.sigmoid(),
        outputs.box3d[..., :2],
        outputs.intent_logits.softmax(-1),
    )


@dataclass(frozen=True, slots=True)
class Merge:
    """How late fusion weighs the LiDAR's answers: in the label, the condition and the centre of an object that both
    found, and `alone` by what the score of one is multiplied that only the LiDAR found, when there is a picture.
    """

    label: float = 0.5
    condition: float = 0.5
    centre: float = 0.5
    alone: float = 1.0


CHOSEN = Merge(label=0.0, condition=0.25, centre=0.5, alone=0.3)
"""By `sensor_subsets.py tune`, on validation scenes."""


def late_answers(models: Sequence[FusionModel], batch: dict[str, Tensor], merge: Merge = CHOSEN) -> Answers:
    """Camera and LiDAR each answered by a model of their own; answers for one object are averaged, others kept."""
    return merged(*single_answers(models, batch), batch, merge)


def single_answers(models: Sequence[FusionModel], batch: dict[str, Tensor]) -> tuple[Answers, Answers]:
    """What the camera's model and the LiDAR's model say."""
    nothing = {name: torch.zeros_like(batch[f"{name}_available"]) for name in ("camera", "lidar")}
    by_camera = answers(models[0], batch | {"lidar_available": nothing["lidar"]})
    by_lidar = answers(
        models[1],
        batch | {"camera_available": nothing["camera"], "box_valid": torch.zeros_like(batch["box_valid"])},
    )
    return by_camera, by_lidar


def merged(a: Answers, b: Answers, batch: dict[str, Tensor], merge: Merge) -> Answers:
    """Of each sample both lists of answers, those of the LiDAR `b` that mean an object of the camera's put into it."""
    has_a, has_b = batch["camera_available"].any(1), batch["lidar_available"]
    real = a.label[..., :-1].sum(-1)[:, :, None] > 0.3, b.label[..., :-1].sum(-1)[:, None] > 0.3
    gap = torch.cdist(a.centre, b.centre)
    near = (gap < SAME_OBJECT_M) & real[0] & real[1] & (has_a & has_b)[:, None, None]
    mutual = near & (gap == gap.amin(1, keepdim=True)) & (gap == gap.amin(2, keepdim=True))
    weight = mutual.float()
    paired_a, paired_b = mutual.any(2), mutual.any(1)

    def mean(x: Tensor, y: Tensor, share: float = 0.5) -> Tensor:
        other = weight @ y if y.ndim == 3 else (weight @ y[..., None])[..., 0]
        mask = paired_a.view(*paired_a.shape, *[1] * (x.ndim - 2))
        return torch.where(mask, (1 - share) * x + share * other, x)

    label_a = _hushed(mean(a.label, b.label, merge.label), ~has_a[:, None].expand_as(paired_a))
    label_b = _hushed(b.label, paired_b | ~has_b[:, None])
    fainter = torch.where(has_a, merge.alone, 1.0)[:, None, None]
    label_b = torch.cat([label_b[..., :-1] * fainter, label_b[..., -1:]], -1)
    return Answers(
        torch.cat([label_a, label_b], 1),
        torch.cat([mean(a.condition, b.condition, merge.condition), b.condition], 1),
        torch.cat([mean(a.asked, b.asked), b.asked], 1),
        torch.cat([mean(a.centre, b.centre, merge.centre), b.centre], 1),
        (a.intent + b.intent) / 2,
    )


def _hushed(label: Tensor, silent: Tensor) -> Tensor:
    """`label` with "nothing" for the queries that are `silent` (B, Q)."""
    none = torch.zeros_like(label)
    none[..., -1] = 1
    return torch.where(silent[..., None], none, label)
