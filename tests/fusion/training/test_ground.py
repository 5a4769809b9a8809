"""A driving task's model learns from a recording, goes on after a stop, and says where nothing can be learnt."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.cli import main
from fusion.errors import ConfigError, InputError, ModelError
from fusion.model.checkpoint import load_fusion, load_state, save_state
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task
from fusion.training.driving.augment import training_recipe
from fusion.training.driving.frames import DrivingFrames
from fusion.training.driving.ground import GroundRecipe, recall_at, train_ground
from fusion.training.optimisation import best_precision


@pytest.fixture(scope="module")
def spec(ground_spec: FusionSpec) -> FusionSpec:
    return ground_spec


def _recipe(epochs: int) -> GroundRecipe:
    return GroundRecipe(
        epochs=epochs, batch=4, learning_rate=4e-3, warmup_steps=2, threads=1, recall_frames=0, tensorboard=False
    )


def test_a_few_frames_are_learnt_by_heart(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    model, history = train_ground(frames, tmp_path, _recipe(24), spec=spec)
    assert history[-1]["heatmap"] < 0.2 * history[0]["heatmap"]
    assert recall_at(model, frames) == 1.0
    assert recall_at(load_fusion(tmp_path / "model"), frames) == 1.0


def test_a_stopped_run_goes_on_as_if_never_stopped(
    frames: DrivingFrames, spec: FusionSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(_recipe(3), augment=training_recipe(), batch=2)
    whole, history = train_ground(frames, tmp_path / "whole", recipe, spec=spec)
    real, taken = DrivingFrames.frame, []

    def stop_in_third_epoch(*given: object) -> object:
        taken.append(given[1])
        if len(taken) > 2 * len(frames) + 2:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(DrivingFrames, "frame", stop_in_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        train_ground(frames, tmp_path / "stopped", recipe, spec=spec)
    monkeypatch.setattr(DrivingFrames, "frame", real)
    again, resumed = train_ground(frames, tmp_path / "stopped", recipe, spec=spec, resume=True)
    assert resumed == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    states = [load_state(tmp_path / run / "last") for run in ("whole", "stopped")]
    assert states[0] is not None
    assert states[1] is not None
    for name, value in states[0].tensors.items():
        assert torch.equal(value, states[1].tensors[name]), name


def test_the_model_that_is_kept_is_the_average(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    model, _ = train_ground(frames, tmp_path, replace(_recipe(2), ema=0.5), spec=spec)
    state = load_state(tmp_path / "last")
    assert state is not None
    assert state.step == 2
    name = "fuser.latents"
    kept = load_fusion(tmp_path / "model").state_dict()[name]
    assert torch.equal(kept, model.state_dict()[name])
    assert torch.equal(kept, state.part("average")[name])
    assert not torch.equal(kept, state.part("model")[name])


def test_a_run_that_was_begun_otherwise_is_not_gone_on_with(
    frames: DrivingFrames, spec: FusionSpec, tmp_path: Path, write_drive: Callable[..., Path]
) -> None:
    train_ground(frames, tmp_path, _recipe(1), spec=spec)
    other = DrivingFrames(write_drive(tmp_path / "other.mcap", late_ns=1000), Task.load("kitti"), frames.spec)
    same = DrivingFrames(write_drive(tmp_path / "same.mcap"), Task.load("kitti"), frames.spec)

    def go_on(told: str, *, moments: DrivingFrames = frames, by: GroundRecipe | None = None, **given: object) -> None:
        with pytest.raises(ConfigError, match=rf"last: a run that was begun otherwise: {told}; give what"):
            train_ground(moments, tmp_path, by or _recipe(1), resume=True, **({"spec": spec} | given))  # type: ignore[arg-type]

    go_on("frames", moments=other)
    go_on("held-out frames", held_out=other)
    go_on(r"model \(hidden 48 and not 64\)", spec=replace(spec, hidden=64))
    go_on("recipe \\(augment, seed 7 and not 8\\)", by=replace(_recipe(1), augment=training_recipe(), seed=8))
    _, history = train_ground(same, tmp_path, replace(_recipe(2), threads=2), spec=spec, resume=True)
    assert len(history) == 2
    state = load_state(tmp_path / "last")
    assert state is not None
    save_state(tmp_path / "last", replace(state, facts={"history": history}))
    with pytest.raises(ConfigError, match="last: an earlier version's, which does not tell"):
        train_ground(frames, tmp_path, _recipe(2), spec=spec, resume=True)


def test_a_state_of_another_build_is_refused(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    train_ground(frames, tmp_path, _recipe(1), spec=spec)
    state = load_state(tmp_path / "last")
    assert state is not None
    tensors = {name: value for name, value in state.tensors.items() if name != "model.fuser.latents"}
    save_state(tmp_path / "last", replace(state, tensors=tensors))
    with pytest.raises(ModelError, match="another model or build"):
        train_ground(frames, tmp_path, _recipe(1), spec=spec, resume=True)


def test_curves_are_kept(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path, scalars: Callable[..., dict]) -> None:
    recipe = replace(_recipe(2), batch=2, recall_frames=2, tensorboard=None)
    _, history = train_ground(frames, tmp_path, recipe, spec=spec, held_out=frames)
    curves = scalars(tmp_path)
    assert [step for step, _ in curves["loss/heatmap"]] == [1, 2, 3, 4]
    assert set(curves) == {"loss/heatmap", "loss/box", "loss/velocity", "optimizer/learning_rate", "recall/held_out"}
    assert curves["recall/held_out"] == [(2, history[0]["recall"]), (4, history[1]["recall"])]
    assert sum(value for _, value in curves["loss/box"][2:]) / 2 == pytest.approx(history[1]["box"], rel=1e-5)


def test_curves_without_tensorboard(
    frames: DrivingFrames,
    spec: FusionSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("fusion.training.event_log.find_spec", lambda name: None)
    train_ground(frames, tmp_path, replace(_recipe(0), tensorboard=None), spec=spec)
    assert "TensorBoard is not installed" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--tensorboard"):
        train_ground(frames, tmp_path, replace(_recipe(0), tensorboard=True), spec=spec)


def test_half_precision_learns_too(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    assert best_precision("cpu") == "fp32"
    whole, half = (
        train_ground(frames, tmp_path / name, replace(_recipe(1), precision=name), spec=spec)[1][0]["heatmap"]
        for name in ("fp32", "bf16")
    )
    assert half == pytest.approx(whole, rel=0.05)
    assert half != whole
    with pytest.raises(ConfigError, match=r"fp16.*fp32, bf16"):
        replace(_recipe(1), precision="fp16")


def test_backbone_begins_with_given_weights(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    bad = tmp_path / "weights.safetensors"
    bad.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        train_ground(frames, tmp_path, _recipe(1), spec=spec, network_weights=bad)


def test_frames_without_truth_teach_nothing(
    frames: DrivingFrames, spec: FusionSpec, tmp_path: Path, write_drive: Callable[..., Path]
) -> None:
    silent = DrivingFrames(write_drive(tmp_path / "silent.mcap", told=False), Task.load("kitti"), frames.spec)
    with pytest.raises(InputError, match=r"silent\.mcap: no frame has truth"):
        train_ground(silent, tmp_path, _recipe(1), spec=spec)


def test_the_command_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_drive: Callable[..., Path]
) -> None:
    recording = write_drive(tmp_path / "drive.mcap")
    command = ["train", "fusion", "--task", "kitti", "--data", str(recording), "--out", str(tmp_path), "--size", "huge"]
    assert main(command) != 0
    assert "small, base, large" in capsys.readouterr().err
    assert main(["train", "fusion", "--task", "kitti"]) != 0
    assert "--data" in capsys.readouterr().err
