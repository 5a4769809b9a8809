"""TensorRT: what its parser takes, what is missing on a machine without it, and the gate before a plan is kept."""

import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fusion.cli import main
from fusion.codec import Profile
from fusion.engines import Array, Engine, load_engine
from fusion.errors import ConfigError, ModelError, UnavailableError
from fusion.perception.detector_variant import VARIANT_NAME
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.detection import tensorrt
from fusion.training.detection.tensorrt import PLAN_NAME, build_plan, check_available, write_plan
from fusion.training.detection.tensorrt_operators import refused_by_tensorrt


def _graph(path: Path, *, operator: str = "Relu", zero: Array) -> Path:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node(operator, ["d"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(zero, "zero"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)), str(path))
    return path


def test_what_the_parser_does_not_take_is_named(tmp_path: Path) -> None:
    symmetric = np.int8(0)
    assert refused_by_tensorrt(_graph(tmp_path / "a.onnx", zero=symmetric)) == []
    assert refused_by_tensorrt(_graph(tmp_path / "b.onnx", operator="Unique", zero=symmetric)) == ["operator Unique"]
    for zero in (np.int8(3), np.uint8(0)):
        assert refused_by_tensorrt(_graph(tmp_path / "c.onnx", zero=zero)) == [
            "DequantizeLinear that is not symmetric int8",
            "QuantizeLinear that is not symmetric int8",
        ]


@pytest.mark.parametrize("task", ["pcb", "yard"])
def test_the_bundled_detectors_can_be_taken(task: str) -> None:
    folder = Path(str(resources.files("fusion").joinpath("weights", task)))
    assert refused_by_tensorrt(folder / "detector.onnx") == []


def test_a_machine_without_tensorrt_says_what_to_install(
    bundle: Path, task_file: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "export",
        "detector",
        "--task",
        task_file,
        "--weights",
        bundle,
        "--data",
        root,
        "--out",
        tmp_path / "plan",
    ]
    assert main([*map(str, command), "--precision", "fp16", "--engine", "tensorrt"]) == UnavailableError.exit_code
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "the package 'tensorrt' is not installed here" in told[0]
    assert not list(tmp_path.iterdir())


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "find_spec", lambda _: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="no GPU here"):
        check_available()


class _FakeTensorRt(SimpleNamespace):
    """What `build_plan` uses of TensorRT, and `seen`: how it was used."""

    def __init__(self, version: str, *, fp16: bool = True, explicit: bool = True, monitor: bool = True) -> None:
        seen: dict[str, object] = {}
        config = SimpleNamespace(set_flag=lambda flag: seen.update(flag=flag))
        super().__init__(
            __version__=version,
            seen=seen,
            config=config,
            Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda *_: None}),
            BuilderFlag=SimpleNamespace(**({"FP16": "fp16"} if fp16 else {})),
            NetworkDefinitionCreationFlag=SimpleNamespace(**({"EXPLICIT_BATCH": 0} if explicit else {})),
            IExecutionContext=SimpleNamespace(execute_async_v3=None),
            OnnxParser=lambda *_: SimpleNamespace(parse=bool),
            Builder=lambda _: SimpleNamespace(
                create_network=lambda flags: seen.update(network=flags),
                create_builder_config=lambda: config,
                build_serialized_network=lambda *_: bytearray(b"plan"),
            ),
        )
        if monitor:
            self.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda _: None})


@pytest.mark.parametrize(
    ("fake", "flags", "monitored"),
    [
        (_FakeTensorRt("8.5.3", monitor=False), 1, False),
        (_FakeTensorRt("8.6.1"), 1, True),
        (_FakeTensorRt("10.9.0"), 1, True),
        (_FakeTensorRt("10.99", explicit=False), 0, True),
    ],
)
def test_a_plan_is_built_with_what_each_version_has(
    fake: _FakeTensorRt, flags: int, monitored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    (tmp_path / "a.onnx").write_bytes(b"graph")
    assert build_plan(tmp_path / "a.onnx") == b"plan"
    assert fake.seen == {"network": flags, "flag": "fp16"}
    assert hasattr(fake.config, "progress_monitor") == monitored


def test_a_version_that_builds_no_float16_plan_says_which_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").write_bytes(b"graph")
    old = _FakeTensorRt("8.4.3", monitor=False)
    old.IExecutionContext = SimpleNamespace()  # its plans are run by another call
    for fake in (_FakeTensorRt("11.0.0", fp16=False), old):
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        with pytest.raises(UnavailableError, match=rf"TensorRT {fake.__version__} .* install TensorRT 8\.5 to 10,"):
            build_plan(tmp_path / "a.onnx")


class _Blind:
    """An engine that answers in the right shapes and finds nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.inputs = "tensorrt", engine.inputs

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: np.zeros_like(value) for name, value in self._engine.run(inputs).items()}


@pytest.mark.parametrize("blind", [False, True])
def test_a_plan_is_kept_only_if_it_finds_as_much(
    bundle: Path, task: Task, pictures: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool
) -> None:
    """TensorRT itself is stood in for by ONNX Runtime: this machine has none."""
    whole = load_engine(bundle / "detector.onnx", backend="onnxruntime", threads=1, precision="f32")
    monkeypatch.setattr(tensorrt, "check_available", lambda: None)
    monkeypatch.setattr(tensorrt, "build_plan", lambda _: b"plan")
    monkeypatch.setattr(tensorrt, "PlanEngine", lambda *_: _Blind(whole) if blind else whole)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.0"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    out = tmp_path / "plan"
    if blind:
        with pytest.raises(ModelError, match=r"fp16 in TensorRT loses too much: mAP50 [01]\.\d+ -> 0\.0000"):
            write_plan(task, bundle, pictures, out, max_loss=0.01, threads=1)
        assert not list(tmp_path.iterdir())
        return
    assert str(out / PLAN_NAME) in write_plan(task, bundle, pictures, out, max_loss=0.01, threads=1)
    assert (out / PLAN_NAME).read_bytes() == b"plan"
    Profile.load(out).check_trunk(out / "detector.onnx")  # of a checkpoint nothing else keeps the graph
    assert '"gpu": "a GPU"' in (out / VARIANT_NAME).read_text()
    assert Profile.load(out).sha256 == Profile.load(bundle).sha256
    with pytest.raises(ConfigError, match="--max-loss 2"):
        write_plan(task, bundle, pictures, tmp_path / "other", max_loss=2, threads=1)
