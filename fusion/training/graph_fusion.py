"""A fusion model as its exported graphs, measured like the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fusion.engines import Array, Engine, load_engine
from fusion.model.heads import FusedOutputs
from fusion.preparation.fusion_spec import FusionSpec

_FLOAT = "f32"


class GraphFusion:
    """Answers batches as `FusionModel` does, its graphs run sample by sample.

    `engines` by graph name; `anchors` (Q, 3) metres as the model's.
    """

    def __init__(self, engines: Mapping[str, Engine], spec: FusionSpec, anchors: Tensor) -> None:
        self.engines, self.spec, self.anchors = engines, spec, anchors

    @classmethod
    def load(
        cls,
        folder: Path,
        spec: FusionSpec,
        anchors: Tensor,
        *,
        backend: str,
        threads: int = 2,
        precisions: Mapping[str, str] | None = None,
    ) -> Self:
        """The graphs in `folder`; `precisions` are what the engine computes in, by graph, float32 where nothing is
        said. Raises `ModelError` naming the graph that the engine cannot load.
        """
        given = precisions or {}
        engines = {
            name: load_engine(
                folder / f"{name}.onnx", backend=backend, threads=threads, precision=given.get(name, _FLOAT)
            )
            for name in (*spec.sensors, "fuser")
        }
        return cls(engines, spec, anchors)

    def eval(self) -> Self:
        """Graphs are always in evaluation mode."""
        return self

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[FusedOutputs, Tensor, Tensor]:
        """The fuser's answer for a batch of `fusion.training.fusion_data`; what was heard is not told: both empty."""
        answers = [self.engines["fuser"].run(self.ports(sample)) for sample in rows_of(batch)]
        fields = (torch.from_numpy(np.concatenate([a[name] for a in answers])) for name in FusedOutputs._fields)
        empty = torch.zeros(len(answers), 0)
        return FusedOutputs(*fields), empty, empty

    def readings(self, sample: Mapping[str, Array], graph: str) -> dict[str, Array]:
        """The inputs of an encoder's graph, from a sample without a batch axis."""
        return {name: _fitted(sample[name], shape) for name, shape in self.engines[graph].inputs.items()}

    def ports(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of the fuser's graph for a sample without a batch axis; encoders are run for it."""
        shapes = self.engines["fuser"].inputs
        ports: dict[str, Array] = {}
        for name in self.spec.sensors:
            there, age = (np.asarray(sample[f"{name}_{part}"]).reshape(-1)[0] for part in ("available", "age"))
            made = self.engines[name].run(self.readings(sample, name)) if there else {}
            for part in ("features", "positions"):
                port = f"{name}_{part}"
                ports[port] = made[part] if there else np.zeros(_sizes(shapes[port]), np.float32)
            count = _sizes(shapes[f"{name}_valid"])
            ports[f"{name}_valid"], ports[f"{name}_age"] = np.full(count, there), np.full(count, age, np.float32)
        return ports | {name: _fitted(sample[name], shape) for name, shape in shapes.items() if name not in ports}


def rows_of(batch: Mapping[str, Tensor]) -> list[dict[str, Array]]:
    """The samples of a batch, without its axis."""
    arrays = {name: value.numpy() for name, value in batch.items()}
    return [{name: value[row] for name, value in arrays.items()} for row in range(len(next(iter(arrays.values()))))]


def _sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)


def _fitted(values: Array, shape: tuple[Any, ...]) -> Array:
    """`values` with the port's batch axis; rows that a cache left out are zeros, those too many are left out."""
    sizes = _sizes(shape)
    if values.size == np.prod(sizes):
        return np.ascontiguousarray(values.reshape(sizes))
    table = np.zeros(sizes, values.dtype)
    count = min(len(values), sizes[1])
    table[0, :count] = values[:count]
    return table
