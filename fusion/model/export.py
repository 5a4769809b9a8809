"""The four graphs of a fusion model, with their ports: what is written as ONNX and what parity is measured on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion.model.build import FusionModel
from fusion.model.fuser import SENSORS, Fuser, Items, SensorTokens
from fusion.model.heads import FusedOutputs
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.items import ITEM_POINTS
from fusion.preparation.rays import RAY_DEPTHS

TOKEN_OUTPUTS = ("tokens", "position")
SENSOR_PORTS = ("tokens", "position", "available", "age")


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """One exported graph: `inputs` are example tensors by port name, in the module's order, batch 1."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class FuserGraph(nn.Module):
    """The fuser with flat ports: four a sensor, then the items."""

    def __init__(self, fuser: Fuser) -> None:
        super().__init__()
        self.fuser = fuser

    def forward(self, *ports: Tensor) -> tuple[Tensor, ...]:
        """Ports in the order of `fuser_ports`."""
        count = len(SENSOR_PORTS)
        sensors = {
            name: SensorTokens(*ports[index * count : (index + 1) * count]) for index, name in enumerate(SENSORS)
        }
        return tuple(self.fuser(sensors, Items(*ports[len(SENSORS) * count :])))


def fusion_graphs(model: FusionModel) -> list[Graph]:
    """`camera`, `lidar`, `speech` and `fuser`, ready for an exporter."""
    spec = model.spec
    rows, columns = spec.camera_map
    rays = torch.zeros(1, rows * columns, 3 * len(RAY_DEPTHS))
    camera_inputs = {
        "p4": torch.zeros(1, len(spec.steps[0]), rows, columns, dtype=torch.int8),
        "p5": torch.zeros(1, len(spec.steps[1]), rows // 2, columns // 2, dtype=torch.int8),
        "rays": rays,
    }
    lidar_inputs = {
        "points": torch.zeros(1, spec.points, 4),
        "valid": torch.zeros(1, spec.points, dtype=torch.bool),
    }
    return [
        Graph("camera", model.camera, camera_inputs, TOKEN_OUTPUTS),
        Graph("lidar", model.lidar, lidar_inputs, TOKEN_OUTPUTS),
        Graph("speech", model.speech, {"pcm": torch.zeros(1, spec.samples)}, (*TOKEN_OUTPUTS, "words")),
        Graph("fuser", FuserGraph(model.fuser), fuser_ports(model), FusedOutputs._fields),
    ]


def fuser_ports(model: FusionModel) -> dict[str, Tensor]:
    """Zeros of every port of the fuser, by name, with no sensor available and no box valid."""
    spec = model.spec
    ports: dict[str, Tensor] = {}
    for name, count in token_counts(model).items():
        ports[f"{name}_tokens"] = torch.zeros(1, count, spec.width)
        ports[f"{name}_position"] = torch.zeros(1, count, spec.width)
        ports[f"{name}_available"] = torch.zeros(1, dtype=torch.bool)
        ports[f"{name}_age"] = torch.zeros(1)
    return {**ports, **item_ports(spec)}


def token_counts(model: FusionModel) -> dict[str, int]:
    """Tokens a sensor, in the order of the fuser's ports."""
    rows, columns = model.spec.camera_map
    lidar_rows, lidar_columns = model.spec.grid.tokens
    return {"camera": rows * columns, "lidar": lidar_rows * lidar_columns, "speech": model.speech.frames + 1}


def item_ports(spec: FusionSpec) -> dict[str, Tensor]:
    """Zeros of the item queries' ports."""
    rows = spec.queries
    told = {"condition_scores": torch.zeros(1, rows, len(spec.conditions))} if spec.told_conditions else {}
    return {
        "boxes": torch.zeros(1, rows, 4),
        "box_rays": torch.zeros(1, rows, 3 * len(RAY_DEPTHS)),
        "class_scores": torch.zeros(1, rows, len(spec.classes)),
        "box_valid": torch.zeros(1, rows, dtype=torch.bool),
        "item_place": torch.zeros(1, rows, 3),
        "item_points": torch.zeros(1, rows, ITEM_POINTS, len(spec.point_scale)),
        "item_points_valid": torch.zeros(1, rows, ITEM_POINTS, dtype=torch.bool),
        **told,
    }
