"""A detector in int8: let through when it finds as much, mended block by block when not, and else not there at all."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fusion.cli import main
from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.errors import ConfigError, ModelError
from fusion.evaluation.detection import DetectionMetrics
from fusion.perception.detector_variant import VARIANT_NAME
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training import variants
from fusion.training.detection import mixed, variant
from fusion.training.detection.measure import measure_detector, measure_engine
from fusion.training.detection.sources import image_folder, split_stems
from fusion.training.detection.tensorrt_operators import refused_by_tensorrt
from fusion.training.detection.variant import Wanted, refuse_blind, report, write_detector_variant
from fusion.training.detection.warm_start import read_weights

LENIENT = 0.2
"""There are three pictures to validate on: one box more or less is much."""


@pytest.fixture(scope="module")
def int8(bundle: Path, task_file: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variant") / "int8"
    command = ["export", "detector", "--task", task_file, "--weights", bundle, "--data", root, "--out", out]
    assert main([*map(str, command), "--precision", "int8", "--max-loss", str(LENIENT), "--threads", "1"]) == 0
    return out


def test_an_int8_detector_is_a_trunk_of_its_own(int8: Path, bundle: Path) -> None:
    profile, whole = Profile.load(int8), Profile.load(bundle)
    profile.check_trunk(int8 / "detector.onnx")
    assert profile.sha256 != whole.sha256
    assert [level.channels for level in profile.levels] == [level.channels for level in whole.levels]
    for ours, theirs in zip(profile.levels, whole.levels, strict=True):
        np.testing.assert_array_equal(ours.step, theirs.step)
    facts = json.loads((int8 / VARIANT_NAME).read_text())
    assert facts["profile_sha256"] == {"float32": whole.sha256, "variant": profile.sha256}
    assert facts["quantised"] > 30
    assert facts["bytes"]["variant"] < 0.7 * facts["bytes"]["float32"]
    assert "refuse it" in (int8 / "card.md").read_text()
    assert {line.split()[1] for line in (int8 / "SHA256SUMS").read_text().splitlines()} == {
        path.name for path in int8.iterdir() if path.name != "SHA256SUMS"
    }


def test_the_gate_told_what_the_device_would_find(int8: Path, task: Task, pictures: ImageFolder) -> None:
    facts = json.loads((int8 / VARIANT_NAME).read_text())
    assert set(facts["accuracy"]) == {"onnxruntime", "openvino"}
    stems = split_stems(pictures)[1]
    for backend, figures in facts["accuracy"].items():
        found = measure_detector(task, int8, map(pictures.load, stems), threads=1, backend=backend)
        assert figures["variant"]["mAP50"] == pytest.approx(found.map50, abs=1e-6)
        assert figures["float32"]["mAP50"] - found.map50 <= LENIENT
        assert f"| {backend} | mAP50 | {figures['float32']['mAP50']:.4f} | {found.map50:.4f} |" in report(facts)


def test_the_graph_answers_alike_in_fewer_bits_and_tensorrt_could_read_it(
    int8: Path, bundle: Path, pictures: ImageFolder
) -> None:
    graph = int8 / "detector.onnx"
    assert refused_by_tensorrt(graph) == []
    image = pictures.image(pictures.stems("test")[0]).pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    whole, less = (
        load_engine(path, backend="onnxruntime", threads=1, precision="f32").run({"images": image})
        for path in (bundle / "detector.onnx", graph)
    )
    scores = whole["predictions"][0, 4:], less["predictions"][0, 4:]
    assert not np.array_equal(*scores)
    assert np.abs(scores[0] - scores[1]).mean() < 0.02
    with pytest.raises(ModelError, match="its weights are quantised; start from the float32 bundle"):
        read_weights(graph)


@pytest.fixture
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO compiles each graph of a ladder for seconds; what is told of the ladder holds in any engine."""
    monkeypatch.setattr(variant, "able_backends", lambda _: ["onnxruntime"])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Quantise, but with wrong scales for the weights whose names match."""

    def break_scales(pattern: str) -> None:
        def quantise(graph: Path, out: Path, *arguments: object, **options: object) -> int:
            count = honest(graph, out, *arguments, **options)
            model = onnx.load(out)
            found = [t for t in model.graph.initializer if re.search(rf"{pattern}.*weight_scale", t.name)]
            assert found
            for tensor in found:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array((values * 1e-3).astype(values.dtype), tensor.name))
            onnx.save(model, str(out))
            return count

        honest = mixed.quantise
        monkeypatch.setattr(mixed, "quantise", quantise)

    return break_scales


@pytest.mark.usefixtures("one_engine")
def test_the_block_that_loses_most_is_left_in_float(
    broken: Callable[[str], None], bundle: Path, task: Task, pictures: ImageFolder, tmp_path: Path
) -> None:
    broken(r"detector\.layers\.2\.")
    facts = write_detector_variant(task, bundle, pictures, tmp_path / "out", Wanted("int8", LENIENT, threads=1))
    assert facts["in_float"] == ["layer 2"]
    assert next(iter(facts["sensitivity"])) == "layer 2"
    assert set(facts["sensitivity"]) == set(facts["blocks"])
    assert "in float32: layer 2" in report(facts)
    assert "detector.layers.2.cv1.conv.weight_scale" not in {
        tensor.name.removesuffix(".half") for tensor in onnx.load(tmp_path / "out" / "detector.onnx").graph.initializer
    }


@pytest.mark.parametrize("figure", ["map50", "map50_95"])
@pytest.mark.usefixtures("one_engine")
def test_what_loses_too_much_leaves_no_file(
    bundle: Path, task_file: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, figure: str
) -> None:
    """However many blocks are in float, this detector finds half as much in int8, or finds it half as well."""

    def measure(*arguments: object, what: str) -> DetectionMetrics:
        found = measure_engine(*arguments, what=what)
        return replace(found, **{figure: getattr(found, figure) / 2}) if what.startswith("int8") else found

    monkeypatch.setattr(variant, "measure_engine", measure)
    out = tmp_path / "out"
    command = ["export", "detector", "--task", task_file, "--weights", bundle, "--data", root, "--out", out]
    assert main([*map(str, command), "--precision", "int8", "--threads", "1"]) == ModelError.exit_code
    told = capfd.readouterr().err.strip().splitlines()[-1]
    lost = r"int8 loses too much, even with 16 of its \d+ blocks in float32: mAP50 \S+ -> \S+ in onnxruntime, mAP50-95 "
    assert re.search(lost, told)
    assert "0.005 of each may be lost; nothing was written" in told
    assert not list(tmp_path.iterdir())


def test_bf16_is_the_same_trunk(
    bundle: Path, task: Task, pictures: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "openvino_has_bf16", lambda: False)
    with pytest.raises(ModelError, match="no engine computes in bf16"):
        write_detector_variant(task, bundle, pictures, tmp_path / "out", Wanted("bf16", LENIENT, threads=1))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(variants, "openvino_has_bf16", lambda: True)
    facts = write_detector_variant(task, bundle, pictures, tmp_path / "out", Wanted("bf16", LENIENT, threads=1))
    assert set(facts["accuracy"]) == {"openvino"}
    assert (tmp_path / "out" / "detector.onnx").read_bytes() == (bundle / "detector.onnx").read_bytes()
    assert Profile.load(tmp_path / "out").sha256 == Profile.load(bundle).sha256


def test_pictures_that_show_nothing_hold_nothing_to_it(bundle: Path, task: Task, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "empty")
    for label in (tmp_path / "empty" / "labels").iterdir():
        label.write_text("")
    with pytest.raises(
        ModelError, match="finds nothing or next to nothing that the validation pictures in --data show"
    ):
        write_detector_variant(
            task, bundle, image_folder(task, tmp_path / "empty"), tmp_path / "out", Wanted("int8", threads=1)
        )
    assert not (tmp_path / "out").exists()


def test_next_to_nothing_holds_nothing_to_it_either() -> None:
    refuse_blind(Path("a.onnx"), [0.05])
    for none in (0.0, 0.004, 0.049, float("nan")):  # a variant that finds nothing would lose no more than that
        with pytest.raises(ModelError, match="the pictures or their classes do not fit it"):
            refuse_blind(Path("a.onnx"), [0.9, none])


def test_what_cannot_be_wanted() -> None:
    with pytest.raises(ConfigError, match="no detector is made in 'int4'"):
        Wanted("int4")
    for loss in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="--max-loss"):
            Wanted("int8", max_loss=loss)
