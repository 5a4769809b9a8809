"""Named builders: the only place where the fusion model's hyper-parameters stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fusion.encoders.position import PlanePosition, RayPosition
from fusion.encoders.registry import find_encoder
from fusion.encoders.speech import SpeechEncoder
from fusion.model.attention import FusionLayer, RelationBias
from fusion.model.fuser import SENSORS, Fuser, Items, SensorTokens
from fusion.model.heads import FusedOutputs, FusionHeads
from fusion.model.item_points import ItemPointEncoder
from fusion.model.referring import Referring
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.items import MAX_ITEMS, POINT_SCALE
from fusion.preparation.pillars import PillarGrid
from fusion.preparation.rays import RAY_DEPTHS
from fusion.task import Task


def small_spec(
    task: Task,
    *,
    profile: str,
    image_size: tuple[int, int],
    steps: tuple[Sequence[float], Sequence[float]],
    gains: tuple[float, float],
    words: Sequence[str],
) -> FusionSpec:
    """The size for a CPU: 96 wide, 3 layers, 4 heads, 32 item queries, 8 latents. `image_size` is (width, height)."""
    return FusionSpec(
        name="small",
        task=task.name,
        profile=profile,
        classes=task.classes,
        conditions=task.conditions,
        intents=task.intents,
        words=tuple(words),
        image_width=image_size[0],
        image_height=image_size[1],
        steps=(tuple(map(float, steps[0])), tuple(map(float, steps[1]))),
        gains=gains,
        width=96,
        heads=4,
        layers=3,
        hidden=256,
        queries=MAX_ITEMS,
        latents=8,
        grid=PillarGrid(),
        dropout=0.05,
        point_scale=POINT_SCALE,
        standing=True,
        told_conditions=True,
        referring=True,
    )


def tiny_spec(task: Task, profile: str = "0" * 64) -> FusionSpec:
    """A size for tests: the same parts, a fraction of the work; pictures of 128 x 64."""
    spec = small_spec(
        task,
        profile=profile,
        image_size=(128, 64),
        steps=([0.25] * 4, [0.25] * 4),
        gains=(1.0, 1.0),
        words=("drum", "inspect", "left", "right", "stop"),
    )
    grid = PillarGrid(x=0.0, y=-8.0, cell=2.0, rows=8, columns=8)
    return replace(spec, name="tiny", width=32, heads=2, layers=2, hidden=48, latents=3, grid=grid, points=512)


class FusionModel(nn.Module):
    """Encoders and fuser together: what is trained. Devices run the parts as separate graphs."""

    def __init__(
        self, spec: FusionSpec, camera: nn.Module, lidar: nn.Module, speech: SpeechEncoder, fuser: Fuser
    ) -> None:
        super().__init__()
        self.spec = spec
        self.camera, self.lidar, self.speech, self.fuser = camera, lidar, speech, fuser

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[FusedOutputs, Tensor, Tensor]:
        """Fused outputs, word logits (B, words) and the speech encoder's own intent logits (B, intents).

        `batch` holds the graphs' inputs by name (`p4 p5 rays points points_valid pcm`, the items), and
        `NAME_available` and `NAME_age` for each sensor. Sensors are encoded for the samples that have them only;
        logits of samples without speech are zero.
        """
        sensors = {}
        inputs = {"camera": ("p4", "p5", "rays"), "lidar": ("points", "points_valid")}
        for name, encoder in (("camera", self.camera), ("lidar", self.lidar)):
            there = batch[f"{name}_available"]
            encoded = _for_rows(encoder, there, [batch[key] for key in inputs[name]])
            if encoded is not None:
                sensors[name] = SensorTokens(encoded[0], encoded[1], there, batch[f"{name}_age"])
        there = batch["speech_available"]
        heard = _for_rows(self.speech.hear, there, [batch["pcm"]])
        words = intent = there.new_zeros((len(there), 0), dtype=torch.float32)
        if heard is not None:
            tokens, position, words, intent, _ = heard
            sensors["speech"] = SensorTokens(tokens, position, there, batch["speech_age"])
        items = Items(**{field: batch[field] for field in Items._fields if field in batch})
        return self.fuser({name: sensors[name] for name in SENSORS if name in sensors}, items), words, intent


def build_fusion(spec: FusionSpec) -> FusionModel:
    """A model of `spec` with fresh weights."""
    ray, plane = RayPosition(len(RAY_DEPTHS), spec.width), PlanePosition(spec.width)
    camera = find_encoder("camera")(spec.steps, spec.gains, spec.width, ray)
    lidar = find_encoder("lidar")(spec.grid, spec.width, plane)
    speech = find_encoder("speech")(
        spec.width, spec.heads, len(spec.words), len(spec.intents), spec.samples, spec.dropout
    )
    fuser = Fuser(
        ray=ray,
        plane=plane,
        layers=nn.ModuleList(
            FusionLayer(spec.width, spec.heads, spec.hidden, spec.dropout) for _ in range(spec.layers)
        ),
        heads=FusionHeads(
            spec.width, len(spec.classes), len(spec.conditions), len(spec.intents), told_conditions=spec.told_conditions
        ),
        relation=RelationBias(spec.heads, spec.layers),
        item_points=ItemPointEncoder(spec.point_scale, spec.width),
        width=spec.width,
        classes=len(spec.classes),
        queries=spec.queries,
        latents=spec.latents,
        camera_map=spec.camera_map,
        grid=spec.grid,
        orders=spec.standing,
        conditions=len(spec.conditions) if spec.told_conditions else 0,
        referring=Referring(spec.width, len(spec.classes), len(spec.conditions)) if spec.referring else None,
    )
    return FusionModel(spec, camera, lidar, speech, fuser)


def _for_rows(encoder: Any, rows: Tensor, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """`encoder` run on the batch rows that are True in `rows`, the others zero; None when there are none."""
    index = rows.nonzero()[:, 0]
    if not len(index):
        return None
    outputs = encoder(*(x if len(index) == len(rows) else x[index] for x in inputs))
    if len(index) == len(rows):
        return list(outputs)
    return [x.new_zeros(len(rows), *x.shape[1:]).index_copy(0, index, x) for x in outputs]
