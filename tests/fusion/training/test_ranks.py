"""Two processes learn as one would from the frames of both; a run that loses one of them ends, and goes on."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fusion
from fusion.cli import main
from fusion.errors import ConfigError, UnavailableError
from fusion.model.build import FusionModel, build_fusion, map_size
from fusion.model.checkpoint import TrainingState, load_fusion, load_state
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.driving.augment import AugmentRecipe, augmented
from fusion.training.driving.centre_targets import CentreTargets, centre_losses, centre_targets
from fusion.training.driving.frames import DrivingFrames
from fusion.training.driving.ground import WEIGHTS, GroundRecipe, collate_frames, recall_at
from fusion.training.optimisation import adamw, set_rate
from fusion.training.ranks import Ranks, joined

ONE_SENSOR = AugmentRecipe(flip=0.5, turn_rad=0.3, lidar_only=0.4, camera_only=0.4)
RECIPE = GroundRecipe(epochs=2, batch=1, warmup_steps=2, threads=1, augment=ONE_SENSOR)
PROCESSES = 2


def _torchrun(*command: str | Path) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    here = os.environ | {"PYTHONPATH": str(Path(fusion.__file__).parents[1])}
    return subprocess.run([*launch, *command], capture_output=True, text=True, check=False, timeout=200, env=here)


def _train(
    folder: Path, frames: DrivingFrames, spec: FusionSpec, *, resume: bool = False, dies_at: int | None = None
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    job = folder / "job"
    job.write_bytes(pickle.dumps((frames.path, frames.spec, spec, RECIPE, folder, resume, dies_at)))
    return _torchrun(Path(__file__).with_name("train_in_ranks.py"), job)


def _state(folder: Path) -> TrainingState:
    state = load_state(folder / "last")
    assert state is not None
    return state


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, frames: DrivingFrames, ground_spec: FusionSpec) -> Path:
    """The folder of a run of two processes."""
    folder = tmp_path_factory.mktemp("whole")
    done = _train(folder, frames, ground_spec)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("?step/s]") == RECIPE.epochs, "a bar of each epoch, of one process"
    return folder


def _gradients(
    model: FusionModel, batch: dict[str, torch.Tensor], targets: CentreTargets, counts: torch.Tensor
) -> list[torch.Tensor | None]:
    parts = centre_losses(model(batch)[0], targets, counts)
    loss = sum(WEIGHTS[name] * value for name, value in parts.items())
    return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))


def _alone(frames: DrivingFrames, spec: FusionSpec) -> dict[str, torch.Tensor]:
    """What one process comes to that takes each step from the frames of both, normed apart as theirs are."""
    torch.set_num_threads(1)
    torch.manual_seed(RECIPE.seed)
    model = build_fusion(spec)
    optimizer = adamw(model, RECIPE.learning_rate, RECIPE.weight_decay)
    for step in range(4):
        epoch, start = divmod(step * PROCESSES, len(frames))
        order = np.random.default_rng([RECIPE.seed, epoch]).permutation(len(frames))
        rngs = {place: np.random.default_rng([RECIPE.seed, epoch, place]) for place in (start, start + 1)}
        batches = [collate_frames([augmented(frames, int(order[p]), rng, ONE_SENSOR)]) for p, rng in rngs.items()]
        targets = [centre_targets(batch, spec.grid, map_size(spec), len(spec.classes)) for batch in batches]
        counts = torch.stack([t.counts for t in targets]).sum(0).clamp(min=1) / PROCESSES
        found = [_gradients(model, b, t, counts) for b, t in zip(batches, targets, strict=True)]
        for weight, both in zip(model.parameters(), zip(*found, strict=True), strict=True):
            known = [g for g in both if g is not None]
            weight.grad = torch.stack(known).sum(0) / PROCESSES if known else None
        set_rate(optimizer, RECIPE.learning_rate, RECIPE.warmup_steps, step, 4)
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.clip)
        optimizer.step()
    return dict(model.named_parameters())


def test_two_processes_learn_as_one_does_from_both_their_frames(
    whole: Path, frames: DrivingFrames, ground_spec: FusionSpec
) -> None:
    learnt = _state(whole).part("model")
    for name, value in _alone(frames, ground_spec).items():
        torch.testing.assert_close(learnt[name], value.detach(), rtol=0, atol=1e-5, msg=name)


def test_one_process_writes(whole: Path, frames: DrivingFrames, scalars: Callable[..., dict]) -> None:
    assert sorted(p.name for p in whole.iterdir()) == ["job", "last", "model", "tensorboard"]
    assert [p.name for p in (whole / "last").iterdir()] == ["training.safetensors"]
    assert len(list((whole / "tensorboard").iterdir())) == 1
    assert [step for step, _ in scalars(whole)["loss/heatmap"]] == [1, 2, 3, 4]
    last = _state(whole).facts["history"][-1]["recall"]
    assert scalars(whole)["recall/learnt"][-1] == (4, pytest.approx(last))
    assert recall_at(load_fusion(whole / "model"), frames) == pytest.approx(last)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory, frames: DrivingFrames, ground_spec: FusionSpec) -> Path:
    """The folder of a run whose second process died in the second epoch."""
    folder = tmp_path_factory.mktemp("lost")
    done = _train(folder, frames, ground_spec, dies_at=4)
    assert done.returncode != 0
    assert "exitcode  : 9" in done.stderr
    return folder


def test_a_run_that_loses_a_process_ends_with_its_last_state(lost: Path) -> None:
    assert _state(lost).epoch == 1
    assert not (lost / "model").exists()


def test_a_run_of_several_goes_on_as_if_never_stopped(
    whole: Path, lost: Path, frames: DrivingFrames, ground_spec: FusionSpec
) -> None:
    done = _train(lost, frames, ground_spec, resume=True)
    assert done.returncode == 0, done.stderr
    resumed = _state(lost)
    for name, value in _state(whole).tensors.items():
        assert torch.equal(value, resumed.tensors[name]), name


def test_what_one_process_must_learn_is_refused_to_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "detector", "--task", "yard"]) == ConfigError.exit_code
    assert "2 processes for the detector of task yard" in capsys.readouterr().err
    assert main(["train", "all"]) == ConfigError.exit_code


def test_a_process_that_finds_no_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UnavailableError, match="process 0 of 2 cannot reach the others"), joined():
        pass


@pytest.mark.parametrize(("places", "count"), [(8, 2), (7, 2), (3, 2), (1, 2), (1, 3), (2, 3)])
def test_a_step_is_dealt_out_and_leaves_nobody_idle(places: int, count: int) -> None:
    shares = [Ranks(rank, count).share(range(5, 5 + places)) for rank in range(count)]
    assert {place for share in shares for place in share} == set(range(5, 5 + places))
    assert min(map(len, shares)) >= max(1, places // count)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="process 0 of this machine has no GPU: there are 0"), joined("cuda"):
        pass


def test_each_process_has_a_gpu_of_its_own() -> None:
    assert Ranks(3, 4, local=1).place("cuda") == "cuda:1"
    assert Ranks(3, 4, local=1).place("cuda:0") == "cuda:0"
    assert Ranks().place("cuda") == "cuda"
    assert Ranks(1, 2, 1).place("cpu") == "cpu"
