"""Exported graphs beside the modules they came from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from fusion.engines import load_engine
from fusion.training.onnx_file import OPSET, export_onnx

Exported = tuple[onnx.ModelProto, float]


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[nn.Module, Mapping[str, Tensor], Sequence[Mapping[str, Tensor]]], Exported]:
    """Exports a module and compares all outputs on each of the cases: the graph, the largest difference."""

    def compare(
        module: nn.Module, example: Mapping[str, Tensor], cases: Sequence[Mapping[str, Tensor]]
    ) -> tuple[onnx.ModelProto, float]:
        path = tmp_path / "graph.onnx"
        names = ["tokens", "position"]
        with torch.inference_mode():
            outputs = [*names, *(f"more{n}" for n in range(len(module(*example.values())) - 2))]
        export_onnx(
            module, tuple(example.values()), path, input_names=list(example), output_names=outputs, half_weights=False
        )
        engine = load_engine(path, backend="onnxruntime", threads=1, precision="f32")
        worst = 0.0
        for case in cases:
            with torch.inference_mode():
                expected = module(*case.values())
            answer = engine.run({name: value.numpy() for name, value in case.items()})
            for name, value in zip(outputs, expected, strict=True):
                assert np.isfinite(answer[name]).all()
                worst = max(worst, float(np.abs(answer[name] - value.numpy()).max()))
        graph = onnx.load(path)
        assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET]
        return graph, worst

    return compare
