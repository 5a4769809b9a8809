"""Puts a fusion model together from its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.encoders.position import PlanePosition, RayPosition
from fusion.encoders.registry import Positions, find_encoder
from fusion.encoders.speech import SpeechEncoder
from fusion.encoders.tokens import Tokens
from fusion.errors import ModelError
from fusion.model.attention import FusionLayer, RelationBias
from fusion.model.bev import BevQueries, Views
from fusion.model.centres import CentreHeads, PeakReader
from fusion.model.fuser import Fuser
from fusion.model.heads import ItemHeads
from fusion.model.item_points import ItemPointEncoder
from fusion.model.items import ItemQueries, Items
from fusion.model.memory import Memory
from fusion.model.referring import Referring
from fusion.preparation.fusion_spec import BEV, ITEMS, FusionSpec
from fusion.preparation.rays import RAY_DEPTHS


class FusionModel(nn.Module):
    """Encoders and fuser together: what is trained. Devices run the parts as separate graphs."""

    def __init__(self, spec: FusionSpec, encoders: Mapping[str, nn.Module], fuser: Fuser) -> None:
        super().__init__()
        self.spec, self.fuser = spec, fuser
        self.encoders = nn.ModuleDict(encoders)

    @property
    def speech(self) -> SpeechEncoder:
        """The ears. Raises `ModelError` for a model that has none."""
        if "speech" not in self.encoders:
            raise ModelError(f"the fusion model of task {self.spec.task} has no microphone")
        return cast("SpeechEncoder", self.encoders["speech"])

    @property
    def anchors(self) -> Tensor:
        """Places (Q, 3) in metres of item queries without a box."""
        return cast("ItemQueries", self.fuser.queries).anchors[0]

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Any, Tensor, Tensor]:
        """The fuser's answer, word logits (B, words) and the speech encoder's own intent logits (B, intents).

        `batch` holds the encoders' inputs by name (`p4 p5 rays points points_valid pcm` and so on, the camera's with an
        axis of cameras after the batch's), `NAME_available` and `NAME_age` for each modality, the camera's (B, V), and
        what the queries are told. Readings are encoded for the sensors that are there only; logits of samples without
        speech are zero, those of a model without ears empty.
        """
        sensors, words, intent = self.encode(batch)
        return self.fuser(sensors, told(self.spec, batch)), words, intent

    def encode(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tokens], Tensor, Tensor]:
        """Tokens by modality, and what was heard (see `forward`). A modality that no sample has is left out."""
        sensors = {}
        some = next(iter(batch.values()))
        words = intent = some.new_zeros((len(some), 0), dtype=torch.float32)
        for name, encoder in self.encoders.items():
            there, age = batch[f"{name}_available"], batch[f"{name}_age"]
            inputs = [batch[key].flatten(0, there.ndim - 1) for key in cast("Any", encoder).INPUTS]
            run = cast("Any", encoder).hear if name == "speech" else encoder
            outputs = _for_rows(run, there.flatten(), inputs)
            if outputs is None:
                continue
            count = there[0].numel()
            features, positions = outputs[:2]
            sensors[name] = Tokens.of_sensors(features, positions, there.view(-1, count), age.view(-1, count))
            if name == "speech":
                words, intent = outputs[2:4]
        return sensors, words, intent


def told(spec: FusionSpec, batch: Mapping[str, Tensor]) -> Items | Views:
    """What the queries are made of besides tokens, out of a batch or the graph's ports."""
    kind = Items if spec.layout == ITEMS else Views
    return kind(**{field: batch[field] for field in kind._fields if field in batch})


def build_fusion(spec: FusionSpec) -> FusionModel:
    """A model of `spec` with fresh weights."""
    positions = Positions(RayPosition(len(RAY_DEPTHS), spec.width), PlanePosition(spec.width, reach=_reach(spec)))
    encoders = {
        modality: cast(
            "nn.Module",
            find_encoder(spec.encoder_name(modality)).from_spec(spec, positions, **spec.encoder_options(modality)),
        )
        for modality in spec.sensors
    }
    sizes = {"camera": spec.camera_map, "lidar": spec.grid.tokens}
    queries, heads = _items(spec, positions) if spec.layout == ITEMS else _ground(spec, positions)
    fuser = Fuser(
        memory=Memory(spec.sensors, {name: sizes[name] for name in sizes if name in spec.sensors}, spec.width),
        queries=queries,
        layers=nn.ModuleList(
            FusionLayer(spec.width, spec.heads, spec.hidden, spec.dropout) for _ in range(spec.layers)
        ),
        heads=heads,
        width=spec.width,
        latents=spec.latents,
    )
    return FusionModel(spec, encoders, fuser)


def peak_reader(spec: FusionSpec) -> PeakReader:
    """What makes objects of the maps of a model over the ground."""
    return PeakReader(spec.grid, map_size(spec), spec.bev.peaks)


def map_size(spec: FusionSpec) -> tuple[int, int]:
    """Rows and columns of the heat-maps of a model over the ground."""
    rows, columns = (n // spec.bev.stride * 2**spec.bev.steps for n in spec.grid.tokens)
    return rows, columns


def _items(spec: FusionSpec, positions: Positions) -> tuple[nn.Module, nn.Module]:
    classes, conditions = len(spec.classes), len(spec.conditions)
    queries = ItemQueries(
        ray=positions.ray,
        plane=positions.plane,
        relation=RelationBias(spec.heads, spec.layers),
        item_points=ItemPointEncoder(spec.point_scale, spec.width),
        width=spec.width,
        classes=classes,
        queries=spec.queries,
        camera_map=spec.camera_map,
        grid=spec.grid,
        orders=spec.standing,
        conditions=conditions if spec.told_conditions else 0,
    )
    heads = ItemHeads(
        spec.width,
        classes,
        conditions,
        len(spec.intents),
        told_conditions=spec.told_conditions,
        referring=Referring(spec.width, classes, conditions) if spec.referring else None,
    )
    return queries, heads


def _ground(spec: FusionSpec, positions: Positions) -> tuple[nn.Module, nn.Module]:
    if spec.layout != BEV:
        raise ModelError(f"a fusion model of layout {spec.layout!r}; known are {ITEMS} and {BEV}")
    bev = spec.bev
    queries = BevQueries(positions.plane, spec.grid, bev.stride, bev.heights, spec.camera_map, spec.width)
    heads = CentreHeads(
        spec.width,
        queries.size,
        spec.grid.tokens,
        bev.steps,
        bev.channels,
        len(spec.classes),
        len(spec.conditions),
        len(spec.intents),
    )
    return queries, heads


def _reach(spec: FusionSpec) -> float:
    """Metres that position features call one: the ground's longest side."""
    return max(spec.grid.rows, spec.grid.columns) * spec.grid.cell


def _for_rows(encoder: Any, rows: Tensor, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """`encoder` run on the batch rows that are True in `rows`, the others zero; None when there are none."""
    index = rows.nonzero()[:, 0]
    if not len(index):
        return None
    outputs = encoder(*(x if len(index) == len(rows) else x[index] for x in inputs))
    if len(index) == len(rows):
        return list(outputs)
    return [x.new_zeros(len(rows), *x.shape[1:]).index_copy(0, index, x) for x in outputs]
