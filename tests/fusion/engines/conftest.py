from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def build_graph(path: Path, height: int | str = 16) -> Path:
    """images (1, 3, H, 16) -> `mean` by a float16-weighted convolution, `codes` int8, `both` of two inputs."""
    weight = np.arange(6, dtype=np.float16).reshape(2, 3, 1, 1) / 8
    nodes = [
        helper.make_node("Cast", ["weight.half"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["images", "weight"], ["mean"]),
        helper.make_node("Round", ["mean"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["codes"], to=TensorProto.INT8),
        helper.make_node("Where", ["flag", "mean", "rounded"], ["both"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, 16]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, [1]),
        ],
        [
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 2, height, 16]),
            helper.make_tensor_value_info("codes", TensorProto.INT8, [1, 2, height, 16]),
            helper.make_tensor_value_info("both", TensorProto.FLOAT, [1, 2, height, 16]),
        ],
        [numpy_helper.from_array(weight, "weight.half")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def graph(tmp_path_factory) -> Path:
    return build_graph(tmp_path_factory.mktemp("graph") / "tiny.onnx")


@pytest.fixture(scope="session")
def open_graph(tmp_path_factory) -> Path:
    return build_graph(tmp_path_factory.mktemp("graph") / "open.onnx", "height")
