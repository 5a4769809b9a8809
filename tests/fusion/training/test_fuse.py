"""Training learns, repeats, and goes on where it stopped."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.errors import ConfigError, ModelError
from fusion.model.checkpoint import load_fusion, load_state, save_fusion, save_state
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fuse import FusionRecipe, condition_weights, train_fusion
from fusion.training.fusion_data import SceneSampler
from fusion.training.fusion_metrics import evaluate_fusion, table
from fusion.training.scene_features import FeatureCache
from fusion.training.utterances import UtteranceBank

SHORT = FusionRecipe(
    epochs=2, batch=8, speech_steps=2, speech_batch=4, warmup_steps=2, learning_rate=2e-3, threads=1, half=False
)


def test_an_interrupted_run_ends_where_a_whole_one_does(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_fusion(cache, tmp_path / "whole", SHORT, spec=spec, bank=bank)
    from fusion.training import fuse

    class KilledError(Exception):
        """Stands for a kill after the first epoch's checkpoint."""

    kept = fuse.save_fusion

    def stop(*args: object, **options: object) -> None:
        raise KilledError

    monkeypatch.setattr(fuse, "save_fusion", stop)
    with pytest.raises(KilledError):
        train_fusion(cache, tmp_path / "cut", SHORT, spec=spec, bank=bank)
    monkeypatch.setattr(fuse, "save_fusion", kept)
    resumed = train_fusion(cache, tmp_path / "cut", SHORT, spec=spec, bank=bank, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert (tmp_path / "cut" / "metrics.json").is_file()


def test_a_run_cut_after_an_epoch_keeps_what_was_measured_of_it(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusion.training import fuse

    recipe, measured = replace(SHORT, epochs=1, speech_steps=0), {"all": {"label": 0.5}}
    monkeypatch.setattr(fuse, "evaluate_fusion", lambda *given, **options: measured)
    monkeypatch.setattr(fuse, "table", str)

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fuse, "save_fusion", killed)
        with pytest.raises(KeyboardInterrupt):
            train_fusion(cache, tmp_path, recipe, spec=spec, bank=bank, validation=cache)
    train_fusion(cache, tmp_path, recipe, spec=spec, bank=bank, validation=cache, resume=True)
    history = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["history"]
    assert [epoch["validation"] for epoch in history] == [measured["all"]]


def test_a_run_that_was_begun_otherwise_is_not_gone_on_with(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path
) -> None:
    recipe = replace(SHORT, epochs=1)
    save_fusion(tmp_path / "old", train_fusion(cache, tmp_path / "run", recipe, spec=spec, bank=bank))
    head = replace(recipe, only=("fuser.heads.box",))

    def go_on(told: str, *, items: FeatureCache = cache, by: FusionRecipe = recipe, **given: object) -> None:
        described = {"spec": spec, "bank": bank} | given
        with pytest.raises(ConfigError, match=rf"last: a run that was begun otherwise: {told}; give what"):
            train_fusion(items, tmp_path / "run", by, resume=True, **described)  # type: ignore[arg-type]

    go_on("scenes", items=replace(cache, transcripts=cache.transcripts[::-1]))
    go_on("utterances", bank=replace(bank, waves=bank.waves[::-1]))
    go_on("validation scenes", validation=cache)
    go_on("start", start=tmp_path / "old")
    go_on(r"recipe \(learning_rate 0.002 and not 0.1\), model \(dropout 0.05 and not 0.5\)",
          by=replace(recipe, learning_rate=0.1), spec=replace(spec, dropout=0.5))  # fmt: skip
    go_on(r'recipe \(only \[\] and not \["fuser.heads.box"\]\)', by=head)
    longer = replace(recipe, epochs=2, threads=2)
    train_fusion(cache, tmp_path / "run", longer, spec=spec, bank=bank, resume=True)
    state = load_state(tmp_path / "run" / "last")
    assert state is not None
    assert state.epoch == 2
    save_state(tmp_path / "run" / "last", replace(state, facts={"history": state.facts["history"]}))
    with pytest.raises(ConfigError, match="last: an earlier version's, which does not tell"):
        train_fusion(cache, tmp_path / "run", longer, spec=spec, bank=bank, resume=True)


def test_a_little_training_beats_none(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path, scalars: Callable[[Path], dict]
) -> None:
    recipe = replace(SHORT, epochs=14, speech_steps=0, ema=0.8, warmup_steps=5, learning_rate=4e-3, tensorboard=True)
    model = train_fusion(cache, tmp_path, recipe, spec=spec, bank=bank)
    results = evaluate_fusion(model, SceneSampler(cache, spec), patterns=["all", "no camera"])
    assert results["all"]["label"] > 0.9
    assert results["all"]["condition"] > 0.7
    assert results["all"]["items"] == 48
    assert "anchor recall" in results["no camera"]
    assert "condition leaking" in table(results)
    curves = scalars(tmp_path)
    assert curves["loss/label"][-1][1] < curves["loss/label"][0][1]
    assert [step for step, _ in curves["optimizer/learning_rate"]][:2] == [10, 20]


def test_one_head_learns_and_the_rest_stays(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path
) -> None:
    save_fusion(tmp_path / "old", train_fusion(cache, tmp_path / "run", SHORT, spec=spec, bank=bank))
    old = load_fusion(tmp_path / "old")
    recipe = replace(SHORT, only=("fuser.heads.box",), speech_steps=50)
    new = train_fusion(cache, tmp_path / "new", recipe, spec=spec, bank=bank, start=tmp_path / "old")
    changed = {name for name, value in new.state_dict().items() if not torch.equal(value, old.state_dict()[name])}
    assert changed
    assert all(name.startswith("fuser.heads.box.") for name in changed)
    with pytest.raises(ModelError, match=r"no part 'fuser.heads.nose'; heads are .*fuser.heads.box"):
        train_fusion(cache, tmp_path / "new", replace(SHORT, only=("fuser.heads.nose",)), spec=spec, bank=bank)


def test_a_cache_of_another_trunk_is_refused(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="features of another trunk"):
        train_fusion(cache, tmp_path, SHORT, spec=replace(spec, profile="1" * 64), bank=bank)


def test_rare_conditions_weigh_more(cache: FeatureCache) -> None:
    weights = condition_weights(cache, 6)
    assert weights[1] > weights[0] > 0
    assert not weights[2:].any()
