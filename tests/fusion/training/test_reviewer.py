"""Training the reviewer: it learns, it resumes, it leaves a folder that serves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.codec import RATES
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, InputError, ModelError
from fusion.evaluation.reviewer import calibrate_reviewer, predict
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import write_synthetic_cache
from fusion.task import Task
from fusion.training.reviewer import ReviewerRecipe, _Trainer, train_reviewer
from fusion.training.reviewer_batches import UNDISTURBED, Disturbance, batches, disturbed_batch

RECIPE = ReviewerRecipe(
    epochs=3,
    batch=16,
    learning_rate=3e-3,
    average=0.9,
    threads=1,
    size=ReviewerSize(
        hidden=32,
        layers=1,
        heads=2,
        mlp=64,
        vision_hidden=16,
        vision_layers=1,
        vision_heads=2,
        vision_mlp=32,
        projector=48,
    ),
    disturbance=Disturbance(with_pixels=0.3),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ItemCache:
    folder = tmp_path_factory.mktemp("items")
    write_synthetic_cache(folder, Task.load("yard"), synthetic_profile(task="yard"), 64)
    return ItemCache.load(folder)


def test_a_small_set_is_learnt_and_served(cache: ItemCache, tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        epochs=16,
        learning_rate=5e-3,
        average=0.8,
        lane_heads=0.0,
        smoothing=0.0,
        balance=0.0,
        disturbance=replace(UNDISTURBED, with_pixels=0.25),
    )
    run = train_reviewer(cache, tmp_path, recipe, validation=cache, quiet=True)
    first, last = run.epochs[0], run.epochs[-1]
    assert last["loss"] < 0.6 * first["loss"]
    assert first["object"] < 0.5 < 0.75 < last["object"]
    assert last["condition"] > 0.85
    assert last["asked_pixels"] > 0.75
    reviewer = MiniReviewer.load(str(tmp_path / "reviewer"))
    answers = reviewer.probabilities([cache.features(i, pixels=False) for i in range(len(cache))])
    served = (answers[0].argmax(1).numpy() == cache.columns["truth"][:, 0]).mean()
    assert served == pytest.approx(run.best["object"], abs=0.03)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(cache: ItemCache, tmp_path: Path) -> None:
    whole = train_reviewer(cache, tmp_path / "whole", RECIPE, quiet=True)

    class StoppedError(Exception):
        pass

    import fusion.training.reviewer as module

    measured, calls = module.measure, []

    def stop_after_two(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise StoppedError
        return measured(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "measure", stop_after_two)
        with pytest.raises(StoppedError):
            train_reviewer(cache, tmp_path / "parts", RECIPE, quiet=True)
    resumed = train_reviewer(cache, tmp_path / "parts", RECIPE, resume=True, quiet=True)
    assert resumed.epochs == whole.epochs
    for name in ("model.safetensors", "projector.safetensors"):
        assert (tmp_path / "whole/reviewer" / name).read_bytes() == (tmp_path / "parts/reviewer" / name).read_bytes()


@pytest.fixture(scope="module")
def finished(cache: ItemCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    out = tmp_path_factory.mktemp("finished")
    train_reviewer(cache, out, replace(RECIPE, epochs=1), validation=cache, quiet=True)
    return out


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("items", "begun otherwise: training items; give what it was begun with, leave out --resume"),
        ("validation", "begun otherwise: validation items;"),
        ("trunk", "begun otherwise: profile;"),
        ("recipe", r"begun otherwise: recipe \(learning_rate 0.003 and not 0.01, seed 7 and not 8\);"),
    ],
)
def test_a_run_of_other_items_trunk_or_recipe_is_not_gone_on_with(
    cache: ItemCache, finished: Path, changed: str, told: str
) -> None:
    columns = cache.columns | {"maps0": cache.columns["maps0"][::-1]}
    other = ItemCache(cache.task, cache.layout, cache.profile, columns)
    elsewhere = synthetic_profile(task="yard", image_width=320)
    items = {"items": other, "trunk": ItemCache(cache.task, cache.layout, elsewhere, cache.columns)}.get(changed, cache)
    recipe = replace(RECIPE, learning_rate=1e-2, seed=8) if changed == "recipe" else RECIPE
    validation, written = other if changed == "validation" else cache, (finished / "run.json").read_bytes()
    with pytest.raises(ConfigError, match=rf"checkpoint\.pt: a run that was {told}"):
        train_reviewer(items, finished, recipe, validation=validation, resume=True, quiet=True)
    assert (finished / "run.json").read_bytes() == written


def test_a_run_goes_on_for_longer(cache: ItemCache, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "longer")
    recipe = replace(RECIPE, epochs=2, threads=2)
    run = train_reviewer(cache, tmp_path / "longer", recipe, validation=cache, resume=True, quiet=True)
    assert [figures["epoch"] for figures in run.epochs] == [1.0, 2.0]


def test_a_checkpoint_that_cannot_be_gone_on_from_is_told(cache: ItemCache, finished: Path, tmp_path: Path) -> None:
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    del state["of"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ConfigError, match=r"an earlier version's, which .*; leave out --resume to begin anew"):
        train_reviewer(cache, tmp_path, RECIPE, validation=cache, resume=True, quiet=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"checkpoint\.pt: cannot be gone on from"):
        train_reviewer(cache, tmp_path, RECIPE, validation=cache, resume=True, quiet=True)


def test_an_epoch_reads_every_row_once_and_splits_by_pixels(cache: ItemCache) -> None:
    rng, seen = np.random.default_rng(1), []
    shares = []
    for parts in batches(cache, np.arange(len(cache)), RECIPE.disturbance, 16, rng):
        for batch, truth in parts:
            assert len(batch.crop_rows) in (0, batch.size)
            shares.append((len(batch.crop_rows), batch.size))
            seen.append(truth)
    truths = torch.cat(seen).numpy()
    assert sorted(map(tuple, truths)) == sorted(map(tuple, cache.columns["truth"]))
    assert 0.1 < sum(a for a, _ in shares) / sum(b for _, b in shares) < 0.5


def test_lanes_are_left_out_and_nothing_else_changes(cache: ItemCache) -> None:
    rows, rng = np.arange(60), np.random.default_rng(2)
    whole, _ = disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=True)
    bare, _ = disturbed_batch(
        cache, rows, replace(UNDISTURBED, without_maps=0.5, without_tokens=1.0, without_heads=1.0), rng, pixels=False
    )
    assert (len(whole.map_rows), len(whole.tokens), len(whole.crops)) == (60, 540, 60)
    assert 10 < len(bare.map_rows) < 50
    assert torch.equal(bare.maps[0], whole.maps[0][bare.map_rows])
    assert len(bare.tokens) == len(bare.crops) == 0
    heads = cache.layout.heads
    assert not bare.opinion[:, heads].any()
    assert torch.equal(bare.opinion[:, : heads.start], whole.opinion[:, : heads.start])
    np.testing.assert_allclose(whole.opinion.numpy(), cache.columns["opinion"][rows])


def test_rows_of_a_batch_come_at_coarser_rates(cache: ItemCache) -> None:
    rows, rng = np.arange(60), np.random.default_rng(2)
    batch, _ = disturbed_batch(cache, rows, replace(UNDISTURBED, coarse_rates=0.7), rng, pixels=False)
    drawn = []
    for row in rows:
        tokens = batch.tokens[batch.token_rows == row].numpy()
        for rate in RATES:
            sent = cache.features(row, pixels=False, rate=rate)
            same = all(np.array_equal(batch.maps[i][row].numpy(), values) for i, values in enumerate(sent.maps))
            if same and np.array_equal(tokens, sent.tokens):
                drawn.append(rate.name)
                break
        else:
            pytest.fail(f"row {row} is what no rate sends")
        assert batch.token_index[batch.token_rows == row].tolist() == list(range(len(tokens)))
    assert {rate.name for rate in RATES} == set(drawn)
    assert 0.15 < drawn.count("full") / len(rows) < 0.5


def test_a_reviewer_of_crops_alone_is_judged_and_calibrated_on_crops(cache: ItemCache, tmp_path: Path) -> None:
    alone = replace(RECIPE.disturbance, without_maps=1.0, with_pixels=1.0, recompressed=0.5)
    recipe = replace(RECIPE, epochs=8, average=0.8, disturbance=alone)
    run = train_reviewer(cache, tmp_path, recipe, validation=cache, quiet=True)
    assert run.best["object"] > 0.5
    assert not [name for name in run.best if name.endswith("_pixels")]
    calibrate_reviewer(tmp_path / "reviewer", cache, crops_alone=True)
    tables = predict(MiniReviewer.load(str(tmp_path / "reviewer")), cache, pixels=True, maps=False, crops_alone=True)
    assert (tables[0].argmax(1) == cache.columns["truth"][:, 0]).mean() == pytest.approx(run.best["object"], abs=0.05)


def test_recompressed_crops_lose_something_and_the_cache_nothing(cache: ItemCache) -> None:
    rows, rng, before = np.arange(16), np.random.default_rng(0), cache.columns["crop"].copy()
    plain, _ = disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=True)
    lossy, _ = disturbed_batch(cache, rows, replace(UNDISTURBED, recompressed=0.5), rng, pixels=True)
    off = (lossy.crops - plain.crops).abs().mean((1, 2, 3))
    assert 3 < int((off > 0).sum()) < 13
    assert float(off.max()) < 0.3
    np.testing.assert_array_equal(cache.columns["crop"], before)


def test_flips_move_maps_and_crop_together(cache: ItemCache) -> None:
    rows, rng = np.arange(40), np.random.default_rng(3)
    straight, _ = disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=True)
    flipped, _ = disturbed_batch(cache, rows, replace(UNDISTURBED, flips=True), rng, pixels=True)
    kinds = set()
    for row in range(40):
        for kind, axes in enumerate(((), (0,), (1,), (0, 1))):
            if torch.equal(flipped.crops[row], straight.crops[row].flip([a + 1 for a in axes])):
                kinds.add(kind)
                for level in range(3):
                    assert torch.equal(flipped.maps[level][row], straight.maps[level][row].flip(axes))
                break
        else:
            pytest.fail(f"row {row} is no mirror image")
    assert kinds == {0, 1, 2, 3}


def test_an_epoch_draws_hard_items_more_often(cache: ItemCache, tmp_path: Path) -> None:
    """Half of the items are easy; of a quarter drawn, most are hard ones."""
    columns = {name: values.copy() for name, values in cache.columns.items()}
    easy = np.arange(len(cache)) % 2 == 0
    columns["asked_score"][:] = np.where(easy, 0.0, 1.0)
    for name in ("label_scores", "condition_scores", "class_scores"):
        columns[name][:] = np.eye(columns[name].shape[1])[0]
    halves = ItemCache(cache.task, cache.layout, cache.profile, columns)
    trainer = _Trainer(halves, replace(RECIPE, items_per_epoch=20, hard=8.0))
    rng = np.random.default_rng(0)
    drawn = np.concatenate([trainer.draw(rng) for _ in range(40)])
    assert 0.7 < (~easy[drawn]).mean() < 0.95
    assert all(len(set(trainer.draw(rng))) == 20 for _ in range(3))


def test_too_few_scenes_to_validate_is_said(cache: ItemCache, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few to set a tenth aside"):
        train_reviewer(cache.take(cache.columns["scene"] < 3), tmp_path, RECIPE, quiet=True)
