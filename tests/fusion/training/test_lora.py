"""A reviewer's language model learns through low-rank matrices, and is served as any other, with nothing added."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.cli import main
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, InputError, ModelError
from fusion.review.base import check_answers, load_reviewer
from fusion.review.checkpoint import build_network, save_reviewer
from fusion.review.hub.model import open_model
from fusion.review.hub.name import HubName
from fusion.review.hub.projected import new_projector, save_projected
from fusion.review.hub.tiny import save_tiny
from fusion.review.item_cache import ItemCache
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import synthetic_evidence, write_synthetic_cache
from fusion.task import Slot, Task
from fusion.training import slot_training
from fusion.training.bundle import write_digests
from fusion.training.lora import learning
from fusion.training.lora.learning import LoraRun, merge_adapter, train_lora
from fusion.training.lora.recipe import ALL_LINEAR, LoraRecipe
from fusion.training.reviewer_batches import Disturbance

FAMILIES = ("qwen3_vl", "smolvlm", "mllama")
_SMALL = ReviewerSize(hidden=48, layers=2, heads=4, mlp=96, vision_hidden=32, vision_layers=1, vision_heads=2,
                      vision_mlp=48, projector=32)  # fmt: skip
RECIPE = LoraRecipe(
    epochs=3, batch=16, learning_rate=5e-2, rank=4, alpha=8, targets=(ALL_LINEAR, "projector"), threads=1,
    disturbance=Disturbance(with_pixels=0.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    write_synthetic_cache(folder, Task.load("yard"), synthetic_profile(task="yard"), 64)
    return folder


@pytest.fixture(scope="module")
def cache(items: Path) -> ItemCache:
    return ItemCache.load(items)


def _hub(family: str, cache: ItemCache, root: Path, seed: int = 0) -> str:
    """A tiny model with an untrained projector."""
    folder = save_tiny(family, root / "base", seed=seed)
    opened = open_model(HubName.parse(f"{folder}?task=yard"))
    torch.manual_seed(0)
    save_projected(root / "read", cache.task, new_projector(opened.family, cache.layout, 32), [cache.profile], opened)
    return f"hf:{folder}?projector={root / 'read'}"


def _mini(cache: ItemCache, root: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    network, tokenizer = build_network(cache.task, cache.layout, _SMALL)
    save_reviewer(root / "base", cache.task, network, tokenizer, [cache.profile])
    return f"mini:{root / 'base'}"


@pytest.fixture(scope="module", params=["mini", *FAMILIES])
def trained(
    request: pytest.FixtureRequest, cache: ItemCache, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, LoraRun]:
    root = tmp_path_factory.mktemp(request.param)
    base = _mini(cache, root) if request.param == "mini" else _hub(request.param, cache, root)
    return base, root / "lora", train_lora(base, cache, cache, RECIPE, root / "lora", quiet=True)


def test_it_learns_and_merging_changes_no_answer(trained: tuple[str, Path, LoraRun]) -> None:
    _, _, run = trained
    assert run.best["nll"] < 0.95 * run.start["nll"]
    assert run.merged_difference < 1e-4
    assert run.served["nll"] == pytest.approx(run.best["nll"], rel=2e-2)  # mini: is written in float16


def test_it_is_served_as_any_other(trained: tuple[str, Path, LoraRun], cache: ItemCache) -> None:
    base, _, run = trained
    before, after = load_reviewer(base), load_reviewer(run.name)
    assert after.profiles == before.profiles
    assert after.name != before.name
    made = [synthetic_evidence(after.task, cache.profile, seed, pixels=seed == 1)[0] for seed in range(4)]
    told = [reviewer.score([reviewer.prepare(one) for one in made]) for reviewer in (before, after)]
    for answers in told[1]:
        check_answers(after.task, answers)
    assert str(told[0]) != str(told[1])


def test_the_architecture_is_the_bases(trained: tuple[str, Path, LoraRun]) -> None:
    base, out, _ = trained
    was = Path(base.partition(":")[2].partition("?")[0])
    served = out / ("reviewer" if base.startswith("mini:") else "model")
    then, now = (load_file(folder / "model.safetensors") for folder in (was, served))
    assert {name: value.shape for name, value in now.items()} == {name: value.shape for name, value in then.items()}
    changed = {name for name in now if not torch.equal(now[name], then[name])}
    assert changed
    assert all("vision" not in name and name.endswith("_proj.weight") for name in changed)


def test_the_card_is_true(trained: tuple[str, Path, LoraRun], tmp_path: Path) -> None:
    _, out, run = trained
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    adapter = load_file(out / "adapter" / "adapter_model.safetensors")
    assert card["Trainable"]["parameters"] == run.trainable == sum(value.numel() for value in adapter.values())
    assert card["Adapter"]["sha256"] == learning._sha256(out / "adapter" / "adapter_model.safetensors")
    assert card["Recipe"]["seed"] == RECIPE.seed
    assert card["Validation, merged, as served"]["verdict"] == round(run.served["verdict"], 4)
    assert set(card["Calibration"]) == {slot.name for slot in Task.load("yard").slots}
    shutil.copytree(out, tmp_path / "again")
    (tmp_path / "again" / "SHA256SUMS").unlink()
    write_digests(tmp_path / "again")
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (out / "SHA256SUMS").read_text()
    assert not list(out.parent.glob("lora-*")), "drafts or checkpoints are left"


def test_an_adapter_makes_the_same_reviewer_elsewhere(trained: tuple[str, Path, LoraRun], tmp_path: Path) -> None:
    base, out, run = trained
    name = merge_adapter(base, out / "adapter", tmp_path / "merged")
    assert load_reviewer(name).name.partition("@")[2] == load_reviewer(run.name).name.partition("@")[2]


def test_an_adapter_of_another_base_is_refused(
    trained: tuple[str, Path, LoraRun], cache: ItemCache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base, out, _ = trained
    family = "mini" if base.startswith("mini:") else json.loads(
        (Path(base[3:].partition("?")[0]) / "config.json").read_text()
    )["model_type"]  # fmt: skip
    other = _mini(cache, tmp_path, seed=1) if family == "mini" else _hub(family, cache, tmp_path, seed=1)
    command = ["export", "lora", "--reviewer", other, "--adapter", str(out / "adapter"), "--out", str(tmp_path / "no")]
    assert main(command) == ModelError.exit_code
    told = capfd.readouterr().err
    assert "was learnt on" in told
    assert "Traceback" not in told
    assert not (tmp_path / "no").exists()


def test_a_folder_that_is_there_is_never_written_over(
    items: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "yard" / "lora" / "precious.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    monkeypatch.chdir(kept.parent)
    export = ["export", "lora", "--reviewer", "mini:yard", "--adapter", "adapter", "--out"]
    train = ["train", "lora", "--reviewer", "mini:yard", "--items", str(items), str(items), "--out", str(tmp_path)]
    for command, folder in (([*export, str(kept.parent)], kept.parent), ([*export, "."], "."), (train, kept.parent)):
        assert main(command) == InputError.exit_code
        assert f"{folder}: is there already; give a folder that is not" in capfd.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["yard", "lora", "precious.txt"]
    assert kept.read_text() == "mine"


class _KilledError(Exception):
    pass


def _with_other_maps(cache: ItemCache) -> ItemCache:
    """Items of the same truth with the evidence of others."""
    return ItemCache(cache.task, cache.layout, cache.profile, cache.columns | {"maps0": cache.columns["maps0"][::-1]})


def test_a_killed_run_goes_on_where_it_was(cache: ItemCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = _mini(cache, tmp_path)
    train_lora(base, cache, cache, RECIPE, tmp_path / "whole", quiet=True)
    after = slot_training._Run.save

    def killed(self: Any, checkpoints: Any, done: int) -> None:
        after(self, checkpoints, done)
        if done == 2:
            raise _KilledError

    with monkeypatch.context() as patched:
        patched.setattr(slot_training._Run, "save", killed)
        with pytest.raises(_KilledError):
            train_lora(base, cache, cache, RECIPE, tmp_path / "cut", quiet=True)
    assert not (tmp_path / "cut").exists()
    other = LoraRecipe(epochs=3, batch=16, rank=2, threads=1)
    for told, recipe, learn, held in (
        (r"recipe \(.*rank 4 and not 2.*\)", other, cache, cache),
        ("validation items", RECIPE, cache, cache.take(np.arange(40))),
        ("training items", RECIPE, _with_other_maps(cache), cache),
    ):
        with pytest.raises(ConfigError, match=f"begun otherwise: {told}; give what it was begun with"):
            train_lora(base, learn, held, recipe, tmp_path / "cut", resume=True, quiet=True)
    train_lora(base, cache, cache, RECIPE, tmp_path / "cut", resume=True, quiet=True)
    assert (tmp_path / "cut" / "SHA256SUMS").read_text() == (tmp_path / "whole" / "SHA256SUMS").read_text()


def test_other_questions_grow_the_vocabulary(cache: ItemCache, tmp_path: Path) -> None:
    slots = (Slot(name="crew", question="Who goes?", options=("nobody", "mover", "guard")), cache.task.slots[1])
    task = cache.task.model_copy(update={"name": "dispatch", "prompt": "A dispatcher asks.", "slots": slots})
    truth = np.stack([cache.columns["truth"][:, 0] % 3, cache.columns["truth"][:, 1]], 1)
    asked = ItemCache(task, cache.layout, cache.profile, cache.columns | {"truth": truth})
    base = _mini(cache, tmp_path)
    run = train_lora(base, asked, asked, RECIPE, tmp_path / "lora", quiet=True)
    reviewer = load_reviewer(run.name)
    assert reviewer.task.slots == slots
    check_answers(task, reviewer.score([reviewer.prepare(reviewer.example(0))])[0])  # type: ignore[attr-defined]
    then, now = (load_file(folder / "model.safetensors") for folder in (tmp_path / "base", tmp_path / "lora/reviewer"))
    for name, learnt in (("language_model.model.embed_tokens.weight", 1), ("language_model.lm_head.weight", 3)):
        assert torch.equal(now[name][: len(then[name])], then[name]), "a known word changed"
        assert len(now[name]) > len(then[name]) + learnt
    again = merge_adapter(base, tmp_path / "lora/adapter", tmp_path / "merged")
    assert load_reviewer(again).name == reviewer.name
    (tmp_path / "lora/adapter/words.safetensors").unlink()
    with pytest.raises(ModelError, match="does not have the words of its task"):
        merge_adapter(base, tmp_path / "lora/adapter", tmp_path / "wordless")
    assert not list(tmp_path.glob("wordless*"))


def test_a_known_word_that_becomes_an_option_is_in_the_adapter(cache: ItemCache, tmp_path: Path) -> None:
    """`drum` is an option of the base, `cart` only a word of its prompt, `guard` is new."""
    slots = (Slot(name="object", question="Who goes?", options=("cart", "drum", "guard")), cache.task.slots[1])
    task = cache.task.model_copy(update={"name": "dispatch", "slots": slots})
    truth = np.stack([cache.columns["truth"][:, 0] % 3, cache.columns["truth"][:, 1]], 1)
    asked = ItemCache(task, cache.layout, cache.profile, cache.columns | {"truth": truth})
    base = _mini(cache, tmp_path)
    run = train_lora(base, asked, asked, RECIPE, tmp_path / "lora", quiet=True)
    then, now = (load_file(folder / "model.safetensors") for folder in (tmp_path / "base", tmp_path / "lora/reviewer"))
    head = "language_model.lm_head.weight"
    changed = (now[head][: len(then[head])] != then[head]).any(1).nonzero()[:, 0].tolist()
    assert len(changed) == 1, "the known word learns"
    again = merge_adapter(base, tmp_path / "lora/adapter", tmp_path / "merged")
    assert load_reviewer(again).name.partition("@")[2] == load_reviewer(run.name).name.partition("@")[2]
    words = tmp_path / "lora/adapter/words.safetensors"
    rows = load_file(words)
    assert rows["head_ids"].tolist() == changed
    save_file(rows | {"head_ids": rows["head_ids"] + 1}, words)
    with pytest.raises(ModelError, match="does not have the words of its task"):
        merge_adapter(base, tmp_path / "lora/adapter", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    save_file({name: rows[name] for name in ("embedding", "head")}, words)  # as adapters were before
    merge_adapter(base, tmp_path / "lora/adapter", tmp_path / "old")
    old = load_file(tmp_path / "old/reviewer/model.safetensors")[head]
    assert torch.equal(old[changed], then[head][changed])
    assert torch.equal(old[len(then[head]) :], now[head][len(then[head]) :])


def test_a_result_worse_than_its_start_is_refused(cache: ItemCache, tmp_path: Path) -> None:
    base = _mini(cache, tmp_path)
    learnt = train_lora(base, cache, cache, RECIPE, tmp_path / "lora", quiet=True)
    wrong = ItemCache(cache.task, cache.layout, cache.profile, cache.columns | {"truth": cache.columns["truth"][::-1]})
    with pytest.raises(ModelError, match="nothing was written"):
        train_lora(learnt.name, wrong, cache, RECIPE, tmp_path / "worse", quiet=True)
    assert not (tmp_path / "worse").exists()


@pytest.mark.parametrize(
    ("reviewer", "told"),
    [
        ("", "fusion train lora: whose? give --reviewer"),
        ("openai:http://x#y", "give mini:TASK-OR-FOLDER, or hf:"),
        ("hf:nowhere?task=yard", "?projector=FOLDER"),
        ("mini:pcb", "reads other evidence than that of task yard"),
    ],
)
def test_what_cannot_be_adapted_is_told(
    reviewer: str, told: str, items: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "lora", "--reviewer", reviewer, "--items", str(items), str(items), "--out", str(tmp_path)]
    assert main(command) == ConfigError.exit_code
    error = capfd.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_unknown_layers_are_named(cache: ItemCache, tmp_path: Path) -> None:
    recipe = LoraRecipe(targets=("q_proj", "qkv"), batch=16, threads=1)
    with pytest.raises(ConfigError, match=r"--target-modules qkv: .*it has down_proj, gate_proj, .*v_proj"):
        train_lora(_mini(cache, tmp_path), cache, cache, recipe, tmp_path / "lora", quiet=True)
    with pytest.raises(ConfigError, match="rank is 0"):
        LoraRecipe(rank=0)


def test_a_quantized_base_is_refused(cache: ItemCache, tmp_path: Path) -> None:
    base = _hub("qwen3_vl", cache, tmp_path)
    config = tmp_path / "base/config.json"
    settings = json.loads(config.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    config.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="is quantized, and an adapter merged into its weights would be rounded away"):
        train_lora(base, cache, cache, RECIPE, tmp_path / "lora", quiet=True)


def test_without_peft_it_says_what_to_install(
    cache: ItemCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = builtins.__import__

    def gone(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return there(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", gone)
    with pytest.raises(ConfigError, match=r"needs the package peft .*pip install 'fusion-stack\[train\]'"):
        train_lora("mini:yard", cache, cache, RECIPE, tmp_path / "lora", quiet=True)


def test_the_command_trains_and_names_what_it_made(
    cache: ItemCache, items: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "lora", "--reviewer", _mini(cache, tmp_path), "--items", str(items), str(items)]
    more = ["--rank", "2", "--epochs", "1", "--batch", "16", "--threads", "1", "--target-modules", "q_proj,projector"]
    assert main([*command, *more, "--out", str(tmp_path)]) == 0
    told = capfd.readouterr().out
    name = next(line for line in told.splitlines() if line.startswith("reviewer: ")).removeprefix("reviewer: ")
    assert load_reviewer(name).task.name == "yard"
    recipe = json.loads((tmp_path / "yard/lora/card.json").read_text())["Recipe"]
    assert (recipe["rank"], recipe["alpha"], recipe["targets"]) == (2, 4, "q_proj,projector")
