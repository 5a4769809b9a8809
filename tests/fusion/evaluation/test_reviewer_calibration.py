"""`fusion calibrate reviewer`: temperatures for reviewers without a folder of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.cli import main
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, InputError, ModelError, ProtocolError
from fusion.evaluation.bootstrap import interval_of, mean_interval
from fusion.evaluation.calibration import expected_calibration_error
from fusion.evaluation.reviewer_calibration import ask, calibrate_reviewer_file, halves
from fusion.review.fixed import FixedReviewer
from fusion.review.hub.reviewer import HubReviewer
from fusion.review.hub.tiny import save_tiny
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.remote.reviewer import OpenAiReviewer
from fusion.review.synthetic import write_synthetic_cache
from fusion.review.temperatures import load_temperatures, temper, write_temperatures
from fusion.task import Task
from fusion.wire.checks import FieldCheck
from fusion.wire.limits import MAX_VERSION

YARD = Task.load("yard")
REMOTE = "http://127.0.0.1:9/v1#m?task=yard"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("smolvlm", tmp_path_factory.mktemp("hub") / "tiny-smolvlm")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("items")
    write_synthetic_cache(path, YARD, synthetic_profile(task="yard"), 24, seed=3)
    return path


def test_fitted_by_the_command_and_taken_by_the_name(
    folder: Path, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, name = tmp_path / "fitted" / "calibration.json", f"{folder}?task=yard&side=56"
    assert main(["calibrate", "reviewer", f"hf:{name}", "--items", str(items), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"reviewer: hf:{name}&calibration={out}" in told
    written = json.loads(out.read_text())
    plain, fitted = HubReviewer.load(name), HubReviewer.load(f"{name}&calibration={out}")
    assert written["reviewer"] == plain.name
    assert fitted.name.startswith(plain.name + "+t")
    assert len(fitted.name) == len(plain.name) + 10
    assert fitted.temperatures == tuple(written["temperatures"].values()) != plain.temperatures
    fitting, held_out = halves(ItemCache.load(items))
    assert not set(fitting.columns["scene"]) & set(held_out.columns["scene"])
    assert written["fitted_on"]["items"] + written["held_out"]["items"] == 24
    before, after = ask(plain, held_out), ask(fitted, held_out)
    for i, slot in enumerate(YARD.slots):
        np.testing.assert_allclose(after[i], temper(before[i], fitted.temperatures[i]), atol=1e-6)
        row, truth = written["slots"][slot.name], held_out.columns["truth"][:, i]
        assert row["ece"]["value"] == pytest.approx(expected_calibration_error(after[i], truth), abs=1e-6)
        assert row["ece"]["low"] <= row["ece"]["high"]
        assert row["ece_change"]["value"] == pytest.approx(row["ece"]["value"] - row["ece_before"]["value"])
        assert row["accuracy"]["value"] == np.mean(before[i].argmax(1) == truth)


def test_a_fit_on_its_own_items_never_loses(folder: Path, items: Path, tmp_path: Path) -> None:
    cache = ItemCache.load(items)
    reviewer = HubReviewer.load(f"{folder}?task=yard&side=56")
    report = calibrate_reviewer_file(reviewer, cache, cache, tmp_path / "c.json", draws=20)
    for row in report["slots"].values():
        assert row["nll"]["value"] <= row["nll_before"]["value"] + 1e-9


@pytest.mark.parametrize(
    ("changed", "value"),
    [("reviewer", "hf:another@0"), ("task", "pcb"), ("prompt_sha256", "0" * 64), ("format", 2)],
)
def test_a_file_of_something_else_is_refused(folder: Path, tmp_path: Path, changed: str, value: object) -> None:
    path = tmp_path / "c.json"
    reviewers = (HubReviewer.load, f"{folder}?task=yard&side=56"), (OpenAiReviewer.load, REMOTE)
    for load, name in reviewers:
        write_temperatures(path, YARD, load(name).name, {slot.name: 2.0 for slot in YARD.slots}, {})
        FieldCheck("verdict", ProtocolError).name("reviewer", load(f"{name}&calibration={path}").name, MAX_VERSION)
        path.write_text(json.dumps(json.loads(path.read_text()) | {changed: value}))
        with pytest.raises(ModelError, match=f"c.json: was fitted for {changed}"):
            load(f"{name}&calibration={path}")


def test_the_same_weights_under_another_name_take_the_file(tmp_path: Path) -> None:
    told = {slot.name: 2.0 for slot in YARD.slots}
    for was, now, taken in (
        ("hf:llava:yard@0123", "hf:renamed:yard@0123", True),
        ("hf:llava:yard@0123", "hf:llava:yard@4567", False),
        ("hf:m:yard@0123", "openai:m@0123", False),
        ("mine:a", "mine:b", False),
    ):
        write_temperatures(tmp_path / "c.json", YARD, was, told, {})
        if taken:
            assert load_temperatures(str(tmp_path / "c.json"), YARD, now).values == (2.0,) * len(told)
        else:
            with pytest.raises(ModelError, match=f"fitted for reviewer '{was}', not '{now}'"):
                load_temperatures(str(tmp_path / "c.json"), YARD, now)


def test_a_place_where_nothing_can_be_written_is_told_before_anybody_is_asked(
    items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "c.json"):
        assert main(["calibrate", "reviewer", f"openai:{REMOTE}", "--items", str(items), "--out", str(out)]) == 2
        assert f"{out}: cannot be written" in capsys.readouterr().err


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.json: cannot be read"):
        OpenAiReviewer.load(f"{REMOTE}&calibration={tmp_path / 'gone.json'}")
    (tmp_path / "c.json").write_text('{"temperatures": {"object": 1}}')
    with pytest.raises(ModelError, match="temperature for every slot of yard"):
        OpenAiReviewer.load(f"{REMOTE}&calibration={tmp_path / 'c.json'}")


def test_a_remote_reviewer_is_tempered(tmp_path: Path) -> None:
    plain = OpenAiReviewer.load(REMOTE)
    write_temperatures(tmp_path / "c.json", YARD, plain.name, {slot.name: 2.0 for slot in YARD.slots}, {})
    fitted = OpenAiReviewer.load(f"{REMOTE}&calibration={tmp_path / 'c.json'}")
    tables = [np.linspace(1, 2, len(slot.options)) / np.linspace(1, 2, len(slot.options)).sum() for slot in YARD.slots]
    for slot, table in zip(YARD.slots, tables, strict=True):
        told, was = (reviewer._answers(tables)[slot.name].probabilities.values() for reviewer in (fitted, plain))
        np.testing.assert_allclose(list(told), temper(table[None], 2.0)[0])
        np.testing.assert_allclose(list(was), table)


def test_what_cannot_be_calibrated_is_told(items: Path, tmp_path: Path) -> None:
    cache, out = ItemCache.load(items), tmp_path / "c.json"
    with pytest.raises(ConfigError, match="its own folder"):
        calibrate_reviewer_file(MiniReviewer.load("yard"), cache, cache, out)
    with pytest.raises(InputError, match="asked about pcb"):
        calibrate_reviewer_file(FixedReviewer(Task.load("pcb")), cache, cache, out)
    with pytest.raises(InputError, match="--held-out"):
        halves(cache.take(cache.columns["scene"] == cache.columns["scene"][0]))
    write_temperatures(out, YARD, OpenAiReviewer.load(REMOTE).name, {slot.name: 2.0 for slot in YARD.slots}, {})
    with pytest.raises(ConfigError, match="without calibration="):
        calibrate_reviewer_file(OpenAiReviewer.load(f"{REMOTE}&calibration={out}"), cache, cache, tmp_path / "d.json")
    with pytest.raises(ConfigError, match="give one of both"):
        HubReviewer.load("x?projector=a&calibration=b")
    assert not (tmp_path / "d.json").exists()


def test_intervals_of_a_mean_agree() -> None:
    rng = np.random.default_rng(1)
    values, groups = rng.normal(size=200), rng.integers(0, 30, 200)
    wanted = mean_interval(values, groups, draws=1000)
    got = interval_of(lambda weights: float(weights @ values / weights.sum()), groups, draws=1000)
    assert got == replace(wanted, value=got.value, low=got.low, high=got.high)
    assert (got.value, got.low, got.high) == pytest.approx((wanted.value, wanted.low, wanted.high))
