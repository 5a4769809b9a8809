from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusion.codec import Profile
from fusion.codec.synthetic import synthetic_profile
from fusion.task import Task

CLASSES = ("red", "green", "blue")
WIDTH, HEIGHT = 128, 96


def build_detector(path: Path, profile: Profile) -> Path:
    """A detector of coloured squares: a cell's class scores are its mean red, green and blue, its box is 3 cells wide.

    Codes of channel k are round(10 * mean of colour k % 3).
    """
    nodes, constants, outputs, flat = [], [], [], []
    for index, level in enumerate(profile.levels):
        height, width = profile.map_size(index)
        ys, xs = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        size = np.full_like(xs, 3 * level.stride)
        boxes = np.stack([(xs + 0.5) * level.stride, (ys + 0.5) * level.stride, size, size])[None].astype(np.float32)
        weight = np.zeros((level.channels, 3, 1, 1), np.float32)
        weight[np.arange(level.channels), np.arange(level.channels) % 3] = 10
        constants += [numpy_helper.from_array(boxes, f"boxes{index}"), numpy_helper.from_array(weight, f"w{index}")]
        kernel = [level.stride] * 2
        nodes += [
            helper.make_node("AveragePool", ["images"], [f"mean{index}"], kernel_shape=kernel, strides=kernel),
            helper.make_node("Conv", [f"mean{index}", f"w{index}"], [f"projected{index}"]),
            helper.make_node("Round", [f"projected{index}"], [f"rounded{index}"]),
            helper.make_node("Cast", [f"rounded{index}"], [level.name], to=TensorProto.INT8),
            helper.make_node("Concat", [f"boxes{index}", f"mean{index}"], [f"both{index}"], axis=1),
            helper.make_node("Reshape", [f"both{index}", "shape"], [f"flat{index}"]),
        ]
        flat.append(f"flat{index}")
        outputs.append(helper.make_tensor_value_info(level.name, TensorProto.INT8, [1, level.channels, height, width]))
    anchors = sum(h * w for h, w in (profile.map_size(i) for i in range(len(profile.levels))))
    constants.append(numpy_helper.from_array(np.array([1, 7, -1], np.int64), "shape"))
    nodes.append(helper.make_node("Concat", flat, ["predictions"], axis=2))
    outputs.insert(0, helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, 7, anchors]))
    shape = [1, 3, profile.image_height, profile.image_width]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    model = helper.make_model(
        helper.make_graph(nodes, "squares", [images], outputs, constants),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def profile() -> Profile:
    return synthetic_profile(task="squares", image_width=WIDTH, image_height=HEIGHT)


@pytest.fixture(scope="session")
def task() -> Task:
    return Task.model_validate(
        {
            "name": "squares",
            "title": "Coloured squares",
            "prompt": "What is it?",
            "classes": CLASSES,
            "sensors": {"camera": {"modality": "camera", "rate_hz": 1, "width": WIDTH, "height": HEIGHT}},
            "slots": [{"name": "object", "question": "Which?", "options": list(CLASSES)}],
        }
    )


@pytest.fixture(scope="session")
def graph(tmp_path_factory, profile) -> Path:
    return build_detector(tmp_path_factory.mktemp("squares") / "detector.onnx", profile)
