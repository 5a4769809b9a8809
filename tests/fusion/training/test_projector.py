"""A frozen pretrained model learns to read our evidence, and what was learnt is served with that model alone."""

from __future__ import annotations

import json
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fusion.cli import main
from fusion.codec.synthetic import synthetic_profile
from fusion.console import EXIT_INTERRUPTED
from fusion.errors import ConfigError, ModelError, UnknownProfileError
from fusion.review.base import check_answers
from fusion.review.hub.model import open_model
from fusion.review.hub.name import HubName
from fusion.review.hub.reviewer import HubReviewer
from fusion.review.hub.tiny import save_tiny
from fusion.review.item_cache import ItemCache
from fusion.review.synthetic import synthetic_evidence, write_synthetic_cache
from fusion.task import Task
from fusion.training import projectors, slot_training
from fusion.training.projector import ProjectorRecipe


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ItemCache:
    folder = tmp_path_factory.mktemp("items")
    write_synthetic_cache(folder, Task.load("yard"), synthetic_profile(task="yard"), 64)
    return ItemCache.load(folder)


@pytest.fixture(scope="module", params=["qwen3_vl", "mllama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with features for several layers on a grid, and one that attends to features from the text."""
    return save_tiny(request.param, tmp_path_factory.mktemp("hub") / request.param)


@pytest.fixture(scope="module")
def trained(cache: ItemCache, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(projectors, "training_items", lambda *_: (cache, cache, None))
        patched.setattr(projectors, "ProjectorRecipe", partial(ProjectorRecipe, learning_rate=2e-2))
        command = ["train", "projector", "--task", "yard", "--reviewer", f"hf:{model}?side=112", "--epochs", "8"]
        assert main([*command, "--threads", "1", "--out", str(out)]) == 0
    return out / "yard" / "projector"


def test_the_projector_learns(trained: Path) -> None:
    run = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert run["best"]["nll"] < 0.85 * run["epochs"][0]["nll"]
    assert run["best"]["nll"] == min(figures["nll"] for figures in run["epochs"])


def test_it_is_served_with_its_model(trained: Path, model: Path, cache: ItemCache) -> None:
    reviewer = HubReviewer.load(f"{model}?projector={trained}")
    assert reviewer.profiles == {cache.profile.sha256}
    assert reviewer.name.count("@") == reviewer.name.count("+") == 1
    made = [synthetic_evidence(reviewer.task, cache.profile, seed, pixels=seed % 2 == 1)[0] for seed in range(6)]
    prepared = [reviewer.prepare(one) for one in made]
    together = reviewer.score(prepared)
    for answers, row in zip(together, prepared, strict=True):
        check_answers(reviewer.task, answers)
        (alone,) = reviewer.score([row])
        for name, answer in alone.items():
            assert answers[name].probabilities == pytest.approx(answer.probabilities, abs=5e-5)
    assert len({str(answers["object"]) for answers in together}) > 1, "the evidence makes no difference"
    with pytest.raises(UnknownProfileError, match="is not served by hf:"):
        reviewer.prepare(synthetic_evidence(reviewer.task, synthetic_profile(task="yard", image_width=320), 0)[0])


def test_what_makes_its_rows_pickles(trained: Path, model: Path, cache: ItemCache) -> None:
    """A service that has the model in another process makes rows by it."""
    reviewer = HubReviewer.load(f"{model}?projector={trained}")
    made = synthetic_evidence(reviewer.task, cache.profile, 1)[0]
    row = reviewer.prepare(made)
    again = pickle.loads(pickle.dumps(reviewer.preparer))(made)
    assert again.tokens == row.tokens
    assert reviewer.score([again]) == reviewer.score([row])


def test_a_projector_is_for_its_models_files_however_they_are_run(trained: Path, model: Path, tmp_path: Path) -> None:
    names = {
        HubReviewer.load(f"{model}?projector={trained}{how}").name
        for how in ("", "&device=cpu&dtype=float32", "&side=112", "&dtype=bfloat16")
    }
    assert len(names) == 3
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    described = json.loads((tmp_path / "reviewer.json").read_text())
    described["model_sha256"] = open_model(HubName.parse(f"{model}?task=yard&side=112")).fingerprint  # as it was before
    (tmp_path / "reviewer.json").write_text(json.dumps(described))
    HubReviewer.load(f"{model}?projector={tmp_path}&side=112")


def test_other_weights_are_refused(trained: Path, model: Path, tmp_path: Path) -> None:
    other = save_tiny(model.name, tmp_path / model.name, seed=1)
    with pytest.raises(ModelError, match="of other weights"):
        HubReviewer.load(f"{other}?projector={trained}")
    with pytest.raises(ModelError, match="is of task yard, not pcb"):
        HubReviewer.load(f"{model}?projector={trained}&task=pcb")
    with pytest.raises(ModelError, match="missing"):
        HubReviewer.load(f"{model}?projector={tmp_path}")


def test_a_killed_run_goes_on_where_it_was(
    cache: ItemCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny("qwen3_vl", tmp_path / "model")
    monkeypatch.setattr(projectors, "training_items", lambda *_: (cache, cache, None))

    def train(out: str, *options: str) -> int:
        given = ["--task", "yard", "--reviewer", f"hf:{model}", "--epochs", "2", "--threads", "1"]
        return main(["train", "projector", *given, "--out", str(tmp_path / out), *options])

    kept = slot_training._Run.save

    def killed(self: Any, checkpoints: Any, done: int) -> None:
        kept(self, checkpoints, done)
        raise KeyboardInterrupt

    assert train("whole") == 0
    with monkeypatch.context() as patched:
        patched.setattr(slot_training._Run, "save", killed)
        assert train("cut") == EXIT_INTERRUPTED
    assert train("cut", "--resume", "--seed", "8") == ConfigError.exit_code
    assert "begun otherwise: recipe (seed 7 and not 8); give" in capfd.readouterr().err

    def learn_once(self: Any, epoch: int, progress: Any, real: Any = slot_training._Run.epoch) -> float:
        assert epoch == 1, "the first epoch is done"
        return float(real(self, epoch, progress))

    monkeypatch.setattr(slot_training._Run, "epoch", learn_once)
    assert train("cut", "--resume") == 0
    whole, cut = (tmp_path / out / "yard" / "projector" for out in ("whole", "cut"))
    assert sorted(path.name for path in cut.parent.iterdir()) == ["projector"]
    for path in whole.iterdir():
        if path.is_file():
            assert path.read_bytes() == (cut / path.name).read_bytes(), path.name


def test_a_projector_is_for_a_model(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "projector", "--task", "yard"]) == ConfigError.exit_code
    assert "give --reviewer hf:NAME-OR-PATH" in capfd.readouterr().err
