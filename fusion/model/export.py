"""The graphs of a fusion model, with their ports: what is written as ONNX and what parity is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.encoders.registry import find_encoder
from fusion.encoders.tokens import Tokens
from fusion.model.build import FusionModel, peak_reader, told
from fusion.preparation.fusion_spec import ITEMS, FusionSpec
from fusion.preparation.items import ITEM_POINTS
from fusion.preparation.rays import RAY_DEPTHS

TOKEN_OUTPUTS = ("features", "positions")


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """One exported graph: `inputs` are example tensors by port name, in the module's order, batch 1."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class FuserGraph(nn.Module):
    """The fuser with flat ports: four a modality, then what the queries are told. A ground model's peaks are read too.

    `outputs` are the names of what it gives; what the task has no answer for is left out.
    """

    def __init__(self, model: FusionModel, ports: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.fuser, self.ports = model.spec, model.fuser, tuple(ports)
        self.peaks = None if model.spec.layout == ITEMS else peak_reader(model.spec)

    def forward(self, *ports: Tensor) -> tuple[Tensor, ...]:
        """Ports in the order of `fuser_ports`."""
        return tuple(value for value in self.answer(*ports) if value is not None)

    def answer(self, *ports: Tensor) -> Any:
        """The answer with its names."""
        named = dict(zip(self.ports, ports, strict=True))
        sensors = {
            name: Tokens(*(named[f"{name}_{part}"] for part in Tokens._fields)) for name in self.fuser.memory.sensors
        }
        answer = self.fuser(sensors, told(self.spec, named))
        return answer if self.peaks is None else self.peaks(answer)


def fusion_graphs(model: FusionModel) -> list[Graph]:
    """A graph an encoder, by modality, and `fuser`, ready for an exporter. An encoder's graph takes one reading."""
    graphs = []
    for name, encoder in model.encoders.items():
        heard = ("words",) if name == "speech" else ()
        inputs = find_encoder(model.spec.encoder_name(name)).example(model.spec)
        graphs.append(Graph(name, encoder, inputs, (*TOKEN_OUTPUTS, *heard)))
    ports = fuser_ports(model)
    fuser = FuserGraph(model, tuple(ports))
    with torch.inference_mode():
        answer = fuser.answer(*ports.values())
    outputs = tuple(name for name, value in answer._asdict().items() if value is not None)
    return [*graphs, Graph("fuser", fuser, ports, outputs)]


def fuser_ports(model: FusionModel) -> dict[str, Tensor]:
    """Zeros of every port of the fuser, by name, with no sensor available and no box valid."""
    spec = model.spec
    ports: dict[str, Tensor] = {}
    for name, count in token_counts(model).items():
        ports[f"{name}_features"] = torch.zeros(1, count, spec.width)
        ports[f"{name}_positions"] = torch.zeros(1, count, spec.width)
        ports[f"{name}_valid"] = torch.zeros(1, count, dtype=torch.bool)
        ports[f"{name}_age"] = torch.zeros(1, count)
    return {**ports, **(item_ports(spec) if spec.layout == ITEMS else view_ports(spec))}


def token_counts(model: FusionModel) -> dict[str, int]:
    """Tokens a modality, all its sensors together, in the order of the fuser's ports."""
    spec = model.spec
    rows, columns = spec.camera_map
    lidar_rows, lidar_columns = spec.grid.tokens
    a_sensor = {"camera": rows * columns, "lidar": lidar_rows * lidar_columns}
    if "speech" in model.encoders:
        a_sensor["speech"] = cast("Any", model.speech).frames + 1
    return {name: count * a_sensor[name] for name, count in spec.sensors.items()}


def view_ports(spec: FusionSpec) -> dict[str, Tensor]:
    """Zeros of the ground queries' port."""
    return {"image_from_ego": torch.zeros(1, spec.sensors.get("camera", 0), 3, 4)}


def item_ports(spec: FusionSpec) -> dict[str, Tensor]:
    """Zeros of the item queries' ports."""
    rows = spec.queries
    told_scores = {"condition_scores": torch.zeros(1, rows, len(spec.conditions))} if spec.told_conditions else {}
    return {
        "boxes": torch.zeros(1, rows, 4),
        "box_rays": torch.zeros(1, rows, 3 * len(RAY_DEPTHS)),
        "class_scores": torch.zeros(1, rows, len(spec.classes)),
        "box_valid": torch.zeros(1, rows, dtype=torch.bool),
        "item_place": torch.zeros(1, rows, 3),
        "item_points": torch.zeros(1, rows, ITEM_POINTS, len(spec.point_scale)),
        "item_points_valid": torch.zeros(1, rows, ITEM_POINTS, dtype=torch.bool),
        **told_scores,
    }
