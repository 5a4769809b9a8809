"""Writes ONNX graphs: dynamo exporter, opset 18, checked, large weights stored as float16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18
_SMALL = 256


def export_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    half_weights: bool = True,
) -> Path:
    """Export `module` in evaluation mode with fixed shapes; floats of 256 elements or more are stored as float16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        module.eval(),
        inputs,
        input_names=list(input_names),
        output_names=list(output_names),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    if half_weights:
        store_half(model)
    model.producer_name = "fusion-stack"
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def store_half(model: onnx.ModelProto) -> None:
    """Replace large float32 initialisers by float16 ones and a Cast, which runtimes fold when they load."""
    _halve(model, exact=False)


def store_exact_halves(path: Path) -> None:
    """Store as float16 every tensor of the graph in `path` that loses nothing by it; constants the exporter computed
    stay as they are.
    """
    model = onnx.load(path)
    _halve(model, exact=True)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def restore_floats(model: onnx.ModelProto) -> None:
    """Undo `store_half`: float32 initialisers under the names that the casts of float16 ones gave."""
    stored = {initializer.name: initializer for initializer in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        half = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if half is None or half.data_type != TensorProto.FLOAT16:
            kept.append(node)
            continue
        half.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half).astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _halve(model: onnx.ModelProto, *, exact: bool) -> None:
    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT or np.prod(initializer.dims) < _SMALL:
            continue
        name, values = initializer.name, numpy_helper.to_array(initializer)
        half = values.astype(np.float16)
        if exact and not np.array_equal(half.astype(np.float32), values):
            continue
        initializer.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *kept])
