"""Where a trunk's neck maps are projected to codes: found in the exported graph, shown beside its outputs, replaced.

The network that the graph was exported from is not needed, so any bundle's trunk can be taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fusion.codec import Profile
from fusion.errors import ModelError
from fusion.training.onnx_file import restore_floats, store_half
from fusion.types import Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Tap:
    """One level's projection: a neck map (C, h, w), the graph's tensor `source`, becomes codes round(weight x + bias).

    `weight` (K, C), `bias` (K,). `reading` (C, C) is how much the detection head reads of each direction of the map,
    W^T W of the convolutions it begins with.
    """

    level: str
    source: str
    weight: Float32Array
    bias: Float32Array
    reading: Float32Array


def read_taps(graph: Path, profile: Profile) -> tuple[Tap, ...]:
    """The taps of a trunk, finest level first. Raises `ModelError` for a graph whose projections are not plain 1x1
    convolutions in float, such as a variant in int8.
    """
    return tuple(_Graph(graph).tap(level.name) for level in profile.levels)


def show_maps(graph: Path, taps: Sequence[Tap], out: Path) -> None:
    """Write the graph to `out` with the taps' neck maps as further outputs, named by their tensors."""
    model = _Graph(graph).model
    for tap in taps:
        shape = [1, tap.weight.shape[1], "height", "width"]
        model.graph.output.append(helper.make_tensor_value_info(tap.source, TensorProto.FLOAT, shape))
    _write(model, out)


def replace_projections(
    graph: Path, taps: Sequence[Tap], weights: Sequence[Float32Array], biases: Sequence[Float32Array], out: Path
) -> None:
    """Write the graph to `out` with other projections, of the shapes they have; everything else stays, bit for bit."""
    read = _Graph(graph)
    for tap, weight, bias in zip(taps, weights, biases, strict=True):
        projection = read.projection(tap.level)
        read.set_values(projection.input[1], weight.reshape(*weight.shape, 1, 1))
        read.set_values(projection.input[2], bias)
    store_half(read.model)
    _write(read.model, out)


class _Graph:
    """An exported trunk with its weights in float32."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = onnx.load(path)
        restore_floats(self.model)
        nodes = list(self.model.graph.node)
        self.maker: Mapping[str, NodeProto] = {name: node for node in nodes for name in node.output}
        self.values = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.nodes = nodes

    def tap(self, level: str) -> Tap:
        projection = self.projection(level)
        weight, bias = (self._floats(name) for name in projection.input[1:3])
        source = projection.input[0]
        return Tap(level, source, weight[:, :, 0, 0], bias, self._reading(source))

    def projection(self, level: str) -> NodeProto:
        """The convolution whose rounded output is the graph's output `level`."""
        node = self.maker.get(level)
        while node is not None and node.op_type in {"Cast", "Clip", "Round"}:
            node = self.maker.get(node.input[0])
        if (
            node is None
            or node.op_type != "Conv"
            or len(node.input) != 3
            or not set(node.input[1:]) <= set(self.values)
        ):
            raise ModelError(
                f"{self.path}: {level} is not the rounded output of a plain convolution; give a float32 bundle"
            )
        if list(self.values[node.input[1]].dims[2:]) != [1, 1]:
            raise ModelError(f"{self.path}: the projection of {level} is not 1x1; give a bundle of fusion's own export")
        return node

    def set_values(self, name: str, values: Float32Array) -> None:
        """Give an initializer other values of the same shape."""
        found = list(self.values[name].dims)
        assert found == list(values.shape), (name, found, values.shape)
        self.values[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    def _floats(self, name: str) -> Float32Array:
        return np.asarray(numpy_helper.to_array(self.values[name]), np.float32)

    def _reading(self, source: str) -> Float32Array:
        """W^T W of the convolutions that take `source` and lead to boxes and scores alone."""
        neck = self._ancestors([node for node in self.nodes if node.op_type == "Round"])
        parts = [
            _read_by(self._floats(node.input[1]))
            for node in self.nodes
            if source in node.input and node.op_type == "Conv" and id(node) not in neck
        ]
        if not parts:
            raise ModelError(f"{self.path}: no detection head reads {source}; give a bundle of fusion's own export")
        return np.asarray(sum(parts), np.float32)

    def _ancestors(self, nodes: Sequence[NodeProto]) -> set[int]:
        """Ids of the nodes that `nodes` are computed from, themselves included."""
        seen: set[int] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if id(node) not in seen:
                seen.add(id(node))
                waiting += [self.maker[name] for name in node.input if name in self.maker]
        return seen


def _read_by(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """W^T W (C, C) of a convolution's weights (N, C, k, k), or (C, 1, k, k) of a depthwise one."""
    if weight.shape[1] == 1:
        return np.diag((weight**2).sum((1, 2, 3)))
    rows = weight.transpose(0, 2, 3, 1).reshape(-1, weight.shape[1])
    return np.asarray(rows.T @ rows, np.float32)


def _write(model: onnx.ModelProto, out: Path) -> None:
    onnx.checker.check_model(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(out))
