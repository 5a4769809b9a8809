"""What is hidden stays hidden, labels are not read, and both objectives teach something to begin training with."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.cli import main
from fusion.errors import ConfigError
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import take_over
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fixed_budget import Budget, train_on_budget
from fusion.training.fusion_data import PATTERNS, ModalityDropout, SceneSampler
from fusion.training.fusion_metrics import evaluate_fusion
from fusion.training.objectives import OBJECTIVES, MaskedModelling, nt_xent
from fusion.training.pretrain import pretrain
from fusion.training.scene_features import FeatureCache
from fusion.training.sounds import HeardEars, HeardTokens, heard_sounds, recorded_sounds, said_in

SHORT = Budget(steps=30, batch=8, warmup_steps=5, learning_rate=3e-3, ema=0.8)
ALWAYS = ModalityDropout(0.0, 0.0)


def _batch(cache: FeatureCache, spec: FusionSpec) -> dict[str, Tensor]:
    sampler = SceneSampler(cache, spec)
    return sampler.gather([sampler.evaluation(i, PATTERNS["all"]) for i in range(6)])


def _masked(spec: FusionSpec) -> MaskedModelling:
    torch.manual_seed(2)
    return MaskedModelling(build_fusion(spec).eval())


def test_hidden_blocks_cannot_be_seen(cache: FeatureCache, spec: FusionSpec) -> None:
    task, batch = _masked(spec), _batch(cache, spec)
    hidden = task.draw(6, torch.Generator().manual_seed(1))
    changed = {name: value.clone() for name, value in batch.items()}
    fine = hidden.camera[:, None, None].repeat_interleave(2, 3).repeat_interleave(2, 4)
    changed["p4"] = torch.where(fine, changed["p4"] + 9, changed["p4"])
    changed["p5"] = torch.where(hidden.camera[:, None, None], changed["p5"] - 9, changed["p5"])
    with torch.inference_mode():
        seen, other = (task.tokens(b, hidden) for b in (batch, changed))
    assert set(seen) == {"camera", "lidar"}
    for name in seen:
        assert torch.equal(seen[name].features, other[name].features)
        assert torch.equal(seen[name].valid, other[name].valid)
    share = float((~seen["camera"].valid).float().mean())
    assert 0.4 < share < 1


def test_points_of_hidden_cells_are_taken_away(cache: FeatureCache, spec: FusionSpec) -> None:
    task, batch = _masked(spec), _batch(cache, spec)
    hidden = task.draw(6, torch.Generator().manual_seed(3))
    everything = hidden._replace(lidar=torch.ones_like(hidden.lidar))
    with torch.inference_mode():
        empty = task.tokens(batch, everything)["lidar"]
        none = task.tokens(batch | {"points_valid": torch.zeros_like(batch["points_valid"])}, everything)["lidar"]
    assert torch.equal(empty.features, none.features)
    assert not bool(empty.valid.any())


def test_a_cell_of_the_ground_is_told_by_its_points(cache: FeatureCache, spec: FusionSpec) -> None:
    task, batch = _masked(spec), _batch(cache, spec)
    side, columns = 2 * spec.grid.cell * spec.grid.stride, spec.grid.tokens[1] // 2
    points = batch["points"][0][batch["points_valid"][0]].numpy()
    points = points[(points[:, 1] > spec.grid.y) & (points[:, 1] < -spec.grid.y)]
    row, column = ((points[:, i] - low) // side for i, low in ((0, spec.grid.x), (1, spec.grid.y)))
    facts = task.facts(batch)[0].numpy()
    for cell in {(int(r), int(c)) for r, c in zip(row, column, strict=True)}:
        mine = points[(row == cell[0]) & (column == cell[1])]
        expected = [1, mine[:, 2].max(), mine[:, 2].min(), mine[:, 3].mean()]
        np.testing.assert_allclose(facts[cell[0] * columns + cell[1]], expected, rtol=1e-5, atol=1e-6)
    assert int(facts[:, 0].sum()) == len({(int(r), int(c)) for r, c in zip(row, column, strict=True)})


def test_nt_xent_is_the_published_loss() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 4))
    z = np.concatenate([first, second])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(6):
        partner = (i + 3) % 6
        others = [np.exp(z[i] @ z[k] / 0.1) for k in range(6) if k != i]
        losses.append(-np.log(np.exp(z[i] @ z[partner] / 0.1) / sum(others)))
    assert float(nt_xent(torch.tensor(first), torch.tensor(second))) == pytest.approx(np.mean(losses), rel=1e-6)
    assert float(nt_xent(torch.eye(3), torch.eye(3))) < 1e-3


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_labels_are_not_read(cache: FeatureCache, spec: FusionSpec, objective: str) -> None:
    features = cache.features
    nothing = {name: np.zeros_like(getattr(features, name)) for name in ("label", "condition", "box3d")}
    losses, weights = [], []
    for scenes in (cache, replace(cache, features=replace(features, **nothing))):
        torch.manual_seed(1)
        model = build_fusion(spec)
        losses.append(pretrain(model, SceneSampler(scenes, spec, dropout=ALWAYS), replace(SHORT, steps=3), objective))
        weights.append(model.state_dict())
    assert losses[0] == losses[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_is_learnt(cache: FeatureCache, spec: FusionSpec, objective: str) -> None:
    torch.manual_seed(1)
    model = build_fusion(replace(spec, dropout=0.0))
    losses = pretrain(model, SceneSampler(cache, spec, dropout=ALWAYS), replace(SHORT, steps=24), objective)
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:4])
    assert take_over(build_fusion(spec), model) == 1.0


def test_an_unknown_objective_is_refused(cache: FeatureCache, spec: FusionSpec) -> None:
    with pytest.raises(ConfigError, match="no objective named 'guessing'; known: masked, contrastive"):
        pretrain(build_fusion(spec), SceneSampler(cache, spec), SHORT, "guessing")


def test_a_task_without_scenes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--task", "pcb"]) != 0
    assert "task pcb has no scenes to pretrain on" in capsys.readouterr().err


def _listening(cache: FeatureCache, spec: FusionSpec) -> tuple[FusionModel, SceneSampler]:
    torch.manual_seed(5)
    model = build_fusion(spec)
    heard = heard_sounds(model.speech, recorded_sounds(cache), said_in(cache, spec.intents))
    model.encoders["speech"] = HeardEars(heard.positions, len(spec.intents), spec.width)
    return model, SceneSampler(cache, spec, sounds=HeardTokens(cache, spec, pool=heard))


def _trained(cache: FeatureCache, spec: FusionSpec, budget: Budget) -> Mapping[str, Tensor]:
    model, sampler = _listening(cache, spec)
    return train_on_budget(model, sampler, budget).state_dict()


def test_a_budget_is_kept_and_repeats(cache: FeatureCache, spec: FusionSpec) -> None:
    budget = replace(SHORT, steps=4)
    first, again, other = (_trained(cache, spec, replace(budget, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_a_few_scenes_on_a_budget_teach_something(cache: FeatureCache, spec: FusionSpec) -> None:
    model, sampler = _listening(cache, spec)
    budget = replace(SHORT, steps=60, learning_rate=4e-3)
    made = train_on_budget(model, sampler, budget, scenes=range(5))
    heard = HeardTokens(
        cache,
        spec,
        recordings=heard_sounds(build_fusion(spec).speech, recorded_sounds(cache), said_in(cache, spec.intents)),
    )
    found = evaluate_fusion(made, SceneSampler(cache, spec, sounds=heard), patterns=["no speech"])
    assert found["no speech"]["label"] > 0.9
