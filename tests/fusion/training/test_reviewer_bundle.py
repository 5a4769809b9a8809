"""A reviewer comes into its bundle whole or not at all, and only if it is as good as those before it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusion.cli import main
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ModelError
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import write_synthetic_cache
from fusion.task import Task
from fusion.training import reviewer_gate, reviewers
from fusion.training.bundle import write_card, write_digests
from fusion.training.reviewer import ReviewerRecipe

SIZE = ReviewerSize(hidden=32, layers=1, heads=2, mlp=64, vision_hidden=16, vision_layers=1, vision_heads=2,
                    vision_mlp=32, projector=48)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ItemCache:
    folder = tmp_path_factory.mktemp("items")
    write_synthetic_cache(folder, Task.load("yard"), synthetic_profile(task="yard"), 32)
    return ItemCache.load(folder)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def train(cache: ItemCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`fusion train reviewer` on made-up items, into the bundle `bundle`; returns its exit code."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    write_card(bundle, "Models", {"Data": "made up"})
    write_digests(bundle)
    monkeypatch.setattr(reviewers, "training_items", lambda *_: (cache, cache, None))
    monkeypatch.setattr(reviewers, "_rates", lambda *_: {"escalated items": "0"})

    def run(epochs: int = 1, **changes: Any) -> int:
        recipe = ReviewerRecipe(batch=16, learning_rate=5e-3, average=0.8, threads=1, size=SIZE)
        monkeypatch.setattr(reviewers, "recipe_for", lambda **_: replace(recipe, **changes))
        command = ["train", "reviewer", "--task", "yard", "--epochs", str(epochs), "--threads", "1"]
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        return main([*command, "--weights", str(bundle), "--out", str(tmp_path / "runs")])

    return run


def test_a_run_that_is_cut_short_leaves_the_bundle_as_it_was(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle"
    assert train() == 0
    kept = contents(bundle)
    assert MiniReviewer.load(str(bundle / "reviewer")).task.name == "yard"
    assert json.loads((bundle / "card.json").read_text())["Evidence by rate, validation"] == {"escalated items": "0"}
    listed = dict(reversed(line.split("  ")) for line in (bundle / "SHA256SUMS").read_text().splitlines())
    assert listed == {name: digest for name, digest in kept.items() if name != "SHA256SUMS"}

    def cut(*_: object) -> dict[str, str]:
        raise ModelError("cut short")

    for place in ("_rates", "add_to_card"):
        with monkeypatch.context() as patched:
            patched.setattr(reviewers, place, cut)
            assert train(epochs=2) == ModelError.exit_code
        assert contents(bundle) == kept
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "runs"]
    assert train(epochs=2) == 0
    assert contents(bundle).keys() == kept.keys()
    assert contents(bundle)["reviewer/model.safetensors"] != kept["reviewer/model.safetensors"]


def test_small_losses_of_a_reviewer_do_not_add_up(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle, right = tmp_path / "bundle", {}

    def offer(whole: float, escalated: float) -> int:
        def told(reviewer: MiniReviewer, cache: ItemCache) -> dict[str, float]:
            new = {"verdicts right": whole, "verdicts right, escalated": escalated}
            return right.setdefault(reviewer.name, new)

        monkeypatch.setattr(reviewer_gate, "verdicts_right", told)
        return train(seed=len(right))

    def held() -> tuple[float, float]:
        told = json.loads((bundle / "card.json").read_text())["Reviewer, held to"]
        return told["verdicts right"], told["verdicts right, escalated"]

    assert offer(0.9, 0.6) == 0
    assert held() == (0.9, 0.6)
    assert offer(0.891, 0.6) == 0
    kept = contents(bundle)
    assert held() == (0.9, 0.6)
    assert offer(0.882, 0.6) == ModelError.exit_code
    assert "verdicts right of the new reviewer 0.882 on the validation items, held to 0.900" in capfd.readouterr().err
    assert offer(0.95, 0.05) == ModelError.exit_code
    assert "verdicts right, escalated of the new reviewer 0.050" in capfd.readouterr().err
    assert contents(bundle) == kept
    card = json.loads((bundle / "card.json").read_text())
    card["Reviewer, held to"]["items_sha256"] = "others"  # they do not count, what the bundled one does today does
    (bundle / "card.json").write_text(json.dumps(card))
    assert offer(0.882, 0.6) == 0
    assert held() == (0.891, 0.6)


def test_a_reviewer_is_held_to_what_the_bundled_one_does_today(train: Callable[..., int], tmp_path: Path) -> None:
    assert train(epochs=12) == 0
    card = json.loads((tmp_path / "bundle" / "card.json").read_text())
    card["Reviewer, validation"]["verdict"] = 0.0  # of whatever items: it does not count
    del card["Reviewer, held to"]
    (tmp_path / "bundle" / "card.json").write_text(json.dumps(card))
    kept = contents(tmp_path / "bundle")
    assert train(learning_rate=1e-7) == ModelError.exit_code
    assert contents(tmp_path / "bundle") == kept
