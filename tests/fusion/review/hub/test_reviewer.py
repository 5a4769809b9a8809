"""`hf:` by its name, from its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, EvidenceError, ModelError
from fusion.review.base import check_answers
from fusion.review.hub.name import HubName
from fusion.review.hub.reviewer import HubReviewer
from fusion.review.hub.tiny import save_tiny
from fusion.review.rationale import Explains
from fusion.review.replicas.reviewer import ProcessReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.task import Task
from fusion.types import Box2D, Evidence, PixelCrop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("smolvlm", tmp_path_factory.mktemp("hub") / "tiny-smolvlm")


@pytest.fixture(scope="module")
def reviewer(folder: Path) -> HubReviewer:
    return HubReviewer.load(f"{folder}?task=yard&side=56")


def item(seed: int, *, pixels: bool) -> Evidence:
    evidence = synthetic_evidence(Task.load("yard"), synthetic_profile(task="yard"), seed)[0]
    picture = np.random.default_rng(seed).integers(0, 255, (80, 80, 3), np.uint8)
    crop = PixelCrop(cv2.imencode(".png", picture)[1].tobytes(), "png", Box2D(0, 0, 80, 80))
    return replace(evidence, pixels=crop if pixels else None)


def test_with_pixels_it_answers_and_without_it_does_not_know(reviewer: HubReviewer) -> None:
    rows = [item(1, pixels=True), item(2, pixels=False), item(3, pixels=True)]
    prepared = [reviewer.prepare(row) for row in rows]
    assert [row.tokens for row in prepared] == [reviewer.cost(row) for row in rows]
    assert prepared[1].tokens == 1 < prepared[0].tokens
    assert [row.blind for row in prepared] == [False, True, False]
    answers = reviewer.score(prepared)
    for answered in answers:
        check_answers(reviewer.task, answered)
    for slot in reviewer.task.slots:
        assert set(answers[1][slot.name].probabilities.values()) == {1 / len(slot.options)}
        assert answers[0][slot.name].confidence > 1 / len(slot.options)
    assert answers[0] != answers[2]
    alone = reviewer.score(prepared[2:])[0]
    for name, answer in alone.items():
        assert answer.probabilities == pytest.approx(answers[2][name].probabilities, abs=1e-5)


def test_in_a_process_of_its_own_it_says_the_same_and_why(folder: Path, reviewer: HubReviewer) -> None:
    away = ProcessReviewer.load(f"[hf:{folder}?task=yard&side=56]?gpus=0")
    try:
        assert away.name == reviewer.name
        made = [item(1, pixels=True), item(2, pixels=False)]
        rows, here = [away.prepare(row) for row in made], [reviewer.prepare(row) for row in made]
        assert [row.tokens for row in rows] == [row.tokens for row in here]
        answers, expected = away.score(rows), reviewer.score(here)
        for one, other in zip(answers, expected, strict=True):
            for name, answer in one.items():
                assert answer.probabilities == pytest.approx(other[name].probabilities, abs=1e-5)
        assert isinstance(away, Explains)
        assert away.explain(rows[0], answers[0], 5) == reviewer.explain(here[0], expected[0], 5)
    finally:
        away.close()


def test_the_name_carries_the_weights(reviewer: HubReviewer, tmp_path: Path) -> None:
    assert reviewer.name.startswith("hf:tiny-smolvlm:yard@")
    again = save_tiny("smolvlm", tmp_path / "tiny-smolvlm")
    assert HubReviewer.load(f"{again}?task=yard&side=56").name == reviewer.name
    assert HubReviewer.load(f"{again}?task=yard&side=84").name != reviewer.name
    other = HubReviewer.load(f"{save_tiny('smolvlm', tmp_path / 'tiny-smolvlm', seed=1)}?task=yard&side=56")
    assert other.name != reviewer.name


def test_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its weights lie beside a base that is taken from wherever it says, which no fingerprint would cover."""
    adapter = tmp_path / "adapter"
    shutil.copytree(folder, adapter)
    told = {"base_model_name_or_path": str(folder), "peft_type": "LORA", "target_modules": ["q_proj"], "r": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"adapter_config\.json: .*merge it into its base.*fusion export lora"):
        HubReviewer.load(f"{adapter}?task=yard&side=56")


def test_weights_that_are_not_whole_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "tiny")
    weights = load_file(tmp_path / "tiny" / "model.safetensors")
    lacking = {name: value for name, value in weights.items() if "mlp.down_proj" not in name}
    save_file(lacking, tmp_path / "tiny" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"its weights lack .*mlp"):
        HubReviewer.load(f"{tmp_path / 'tiny'}?task=yard&side=56")
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        HubReviewer.load(f"{tmp_path / 'tiny'}?task=yard&side=56")


def test_bad_pictures_and_other_tasks_are_refused(reviewer: HubReviewer) -> None:
    whole = item(1, pixels=True)
    with pytest.raises(EvidenceError, match="cannot be read"):
        reviewer.prepare(replace(whole, pixels=PixelCrop(b"no picture", "jpeg", Box2D(0, 0, 9, 9))))
    with pytest.raises(EvidenceError, match="task 'pcb'"):
        reviewer.prepare(replace(whole, task="pcb"))


def test_names_that_cannot_be_meant(folder: Path, tmp_path: Path) -> None:
    for name, told in {
        f"{folder}": r"whose questions\? give hf:.*\?task=TASK",
        f"{folder}?task=yard&side=3": "side: .*greater than or equal to 28",
        f"{folder}?task=yard&speed=9": "speed: ",
        f"{folder}?task=yard&device=tpu": "device: ",
    }.items():
        with pytest.raises(ConfigError, match=told):
            HubReviewer.load(name)
    with pytest.raises(ModelError, match="no weights as safetensors"):
        HubReviewer.load(f"{tmp_path}?task=yard")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ModelError, match="cannot be loaded"):
        HubReviewer.load(f"{tmp_path}?task=yard")


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here, which compiled layers need on a processor")
def test_compiled_and_packed_it_answers_the_same(folder: Path, reviewer: HubReviewer) -> None:
    """As on a GPU, whose layers are compiled; here by the compiler for the processor."""
    served = HubReviewer.load(f"{folder}?task=yard&side=56&compile=yes")
    rows = [served.prepare(item(seed, pixels=seed != 2)) for seed in range(5)]
    usual = reviewer.score(rows)
    for answered, expected in zip(served.score(rows), usual, strict=True):
        for name, answer in answered.items():
            assert answer.probabilities == pytest.approx(expected[name].probabilities, abs=1e-5)
    assert served.name == reviewer.name
    assert served.explain(rows[0], usual[0], 8) == reviewer.explain(rows[0], usual[0], 8)


def test_without_a_compiler_it_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ModelError, match="install gcc, or add compile=no"):
        HubReviewer.load(f"{folder}?task=yard&side=56&compile=yes")


@pytest.mark.parametrize(
    ("asked", "compiled"), [("", False), ("&device=cuda", True), ("&device=cuda&compile=no", False)]
)
def test_layers_are_compiled_on_a_gpu(asked: str, compiled: bool) -> None:
    assert HubName.parse(f"somewhere?task=yard{asked}").compiled is compiled
