import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from fusion.engines import base, engines_here, load_engine
from fusion.engines.ort import refuse_fallback
from fusion.errors import ConfigError, ModelError

BACKENDS = ["onnxruntime", "openvino"]
IMAGES = np.random.default_rng(0).normal(0, 3, (1, 3, 16, 16)).astype(np.float32)
FLAG = np.array([True])
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3) / 8
MEAN = np.einsum("kc,bchw->bkhw", WEIGHT, IMAGES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_come_by_name_in_their_own_types(backend, graph):
    engine = load_engine(graph, backend=backend, threads=1, precision="f32")
    assert engine.name == backend
    assert engine.inputs == {"images": (1, 3, 16, 16), "flag": (1,)}
    outputs = engine.run({"images": IMAGES, "flag": FLAG})
    assert set(outputs) == {"mean", "codes", "both"}
    assert outputs["mean"].dtype == np.float32
    assert outputs["codes"].dtype == np.int8
    np.testing.assert_allclose(outputs["mean"], MEAN, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["both"], MEAN, rtol=1e-4, atol=1e-4)
    assert np.abs(outputs["codes"] - MEAN).max() <= 0.5001


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_are_the_callers_own(backend, graph):
    engine = load_engine(graph, backend=backend, threads=1, precision="f32")
    first = engine.run({"images": IMAGES, "flag": FLAG})
    kept = first["mean"].copy()
    engine.run({"images": IMAGES * 2, "flag": FLAG})
    assert np.array_equal(first["mean"], kept)
    first["mean"][:] = 0  # writable


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_that_are_not_contiguous_are_read_right(backend, graph):
    engine = load_engine(graph, backend=backend, threads=1, precision="f32")
    turned = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not turned.flags.c_contiguous
    np.testing.assert_allclose(engine.run({"images": turned, "flag": FLAG})["mean"], MEAN, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": IMAGES}, "takes inputs flag, images; was given images"),
        ({"images": IMAGES, "flag": FLAG, "more": FLAG}, "was given flag, images, more"),
        ({"images": IMAGES[:, :, :8], "flag": FLAG}, r"float32 \(1, 3, 16, 16\); was given float32 \(1, 3, 8, 16\)"),
        ({"images": IMAGES.astype(np.float64), "flag": FLAG}, "was given float64"),
        ({"images": IMAGES[0], "flag": FLAG}, "was given float32"),
    ],
)
def test_wrong_inputs_are_named(backend, graph, inputs, message):
    engine = load_engine(graph, backend=backend, threads=1)
    with pytest.raises(ModelError, match=message) as caught:
        engine.run(inputs)
    assert str(graph) in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_open_dimensions_take_any_size(backend, open_graph):
    engine = load_engine(open_graph, backend=backend, threads=1, precision="f32")
    assert isinstance(engine.inputs["images"][2], str)
    for rows in (4, 16):
        part = np.ascontiguousarray(IMAGES[:, :, :rows])
        np.testing.assert_allclose(
            engine.run({"images": part, "flag": FLAG})["mean"], MEAN[:, :, :rows], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_is_no_model_is_one_line(backend, graph, tmp_path, content, capfd):
    path = tmp_path / "bad.onnx"
    path.write_bytes(graph.read_bytes()[:150] if content is None else content)
    with pytest.raises(ModelError) as caught:
        load_engine(path, backend=backend, threads=1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_a_missing_file_is_named(backend, tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.onnx: no such model file"):
        load_engine(tmp_path / "nothing.onnx", backend=backend)


def test_unknown_names_list_what_is_known(graph):
    with pytest.raises(ConfigError, match="auto, cuda, onnxruntime, openvino, tensorrt"):
        load_engine(graph, backend="abacus")
    with pytest.raises(ConfigError, match="auto, f32, bf16"):
        load_engine(graph, precision="int3")
    with pytest.raises(ConfigError, match="at least 1 thread"):
        load_engine(graph, threads=0)
    with pytest.raises(ModelError, match="bf16"):
        load_engine(graph, backend="onnxruntime", precision="bf16")


def test_auto_takes_what_is_installed(graph, monkeypatch):
    assert load_engine(graph, threads=1).name == "openvino"
    monkeypatch.setattr(base, "find_spec", lambda _: None)
    assert load_engine(graph, threads=1).name == "onnxruntime"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_library_that_is_not_installed_is_named(backend, graph, monkeypatch):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(ModelError, match=f"{backend} is not installed"):
        load_engine(graph, backend=backend)


def test_the_room_itself_imports_no_engine():
    code = "import sys, fusion.engines, fusion.perception\n"
    code += "print([m for m in ('onnxruntime', 'openvino', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("backend", "provider"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
def test_a_provider_that_is_not_there_is_an_error(backend, provider, graph):
    if f"{provider}ExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    with pytest.raises(ModelError, match=f"has no {provider}ExecutionProvider"):
        load_engine(graph, backend=backend)
    assert backend not in engines_here()


def test_a_session_that_fell_back_is_refused(graph):
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    refuse_fallback(graph, "CPUExecutionProvider", session)
    with pytest.raises(ModelError, match="CUDAExecutionProvider did not start and onnxruntime would go on with CPU"):
        refuse_fallback(graph, "CUDAExecutionProvider", session)


def test_what_was_compiled_is_kept(graph, tmp_path):
    load_engine(graph, backend="openvino", threads=1, precision="f32", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"engine\.cache"):
        load_engine(graph, cache=tmp_path / "file")


def test_engines_here_are_those_that_can_run():
    found = engines_here()
    assert found["onnxruntime"] == ("f32",)
    assert found["openvino"][0] == "f32"


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_may_be_read_only_and_are_left_as_they_are(backend, graph):
    engine = load_engine(graph, backend=backend, threads=1, precision="f32")
    frozen = IMAGES.copy()
    frozen.flags.writeable = False
    first = engine.run({"images": frozen, "flag": FLAG})["mean"]
    kept = IMAGES * 2
    engine.run({"images": kept, "flag": FLAG})
    kept[:] = 0
    np.testing.assert_array_equal(engine.run({"images": frozen, "flag": FLAG})["mean"], first)
    np.testing.assert_array_equal(frozen, IMAGES)


def test_openvino_reports_to_nobody():
    """Left to itself it sends an event at each import, from a child forked off the process, which may outlive it."""
    pytest.importorskip("openvino")
    program = (
        "import sys\n"
        "from fusion.engines.ov import OpenVinoEngine\n"
        "OpenVinoEngine.precisions()\n"
        "print('openvino' in sys.modules, any(name.startswith('openvino_telemetry.') for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
