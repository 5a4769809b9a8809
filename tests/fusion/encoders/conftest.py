"""Exported graphs beside the modules they came from, and small random checkpoints of speech networks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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


@pytest.fixture
def speech_network(tmp_path: Path) -> Callable[..., Path]:
    """Saves a random network of two layers of 32 numbers, by its kind in transformers; returns its folder."""
    import transformers

    waves = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    sides = {"layers": 2, "attention_heads": 2, "ffn_dim": 48}
    whisper = {
        "d_model": 32,
        "vocab_size": 20,
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()},
        **{f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "decoder_start"))},
    }

    def save(kind: str, **options: Any) -> Path:
        sizes = whisper if kind == "Whisper" else waves
        if options.get("feat_extract_norm") == "layer":
            options = {"conv_bias": True, "do_stable_layer_norm": True, **options}
        torch.manual_seed(11)
        config = getattr(transformers, f"{kind}Config")(**{**sizes, **options})
        folder = tmp_path / kind
        getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
        return folder

    return save
