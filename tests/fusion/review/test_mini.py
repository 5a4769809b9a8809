"""The bundled reviewer as a model in a folder: its answers, its paths, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fusion.codec import Profile
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import EvidenceError, ModelError, UnknownProfileError
from fusion.review import check_answers, load_reviewer
from fusion.review.batch import collate
from fusion.review.checkpoint import load_reviewer_files, save_reviewer
from fusion.review.folder import save_temperatures
from fusion.review.mini import MiniReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def mixed(yard: Task, profile: Profile) -> list[Evidence]:
    """Items with different lanes, so that their rows have different lengths."""
    rows = [synthetic_evidence(yard, profile, seed, pixels=seed % 3 == 0)[0] for seed in range(12)]
    rows[1] = replace(rows[1], maps=None)
    rows[2] = replace(rows[2], tokens=None)
    rows[4] = replace(rows[4], maps=None, tokens=None)
    return rows


def gap(a: dict[str, SlotAnswer], b: dict[str, SlotAnswer]) -> float:
    return max(abs(a[s].probabilities[o] - b[s].probabilities[o]) for s in a for o in a[s].probabilities)


def test_answers_are_the_tasks_and_differ_with_the_evidence(
    reviewer: MiniReviewer, mixed: list[Evidence], yard: Task
) -> None:
    answers = reviewer.score([reviewer.prepare(e) for e in mixed])
    for answer in answers:
        check_answers(yard, answer)
    assert min(gap(answers[0], other) for other in answers[1:]) > 1e-3


def test_an_answer_does_not_depend_on_batch_mates(reviewer: MiniReviewer, mixed: list[Evidence]) -> None:
    rows = [reviewer.prepare(e) for e in mixed]
    together, backwards = reviewer.score(rows), reviewer.score(rows[::-1])[::-1]
    for row, one, other in zip(rows, together, backwards, strict=True):
        alone = reviewer.score([row])[0]
        assert gap(alone, one) < TOLERANCE
        assert gap(alone, other) < TOLERANCE


def test_cost_is_the_rows_own_length(reviewer: MiniReviewer, mixed: list[Evidence], yard: Task) -> None:
    network = reviewer.files.network
    for evidence in mixed:
        row = reviewer.prepare(evidence)
        readings = [row.payload] if row.payload.crop is None else [row.payload, replace(row.payload, crop=None)]
        counts = [int(network.visual(collate([reading], network.layout))[1][0]) for reading in readings]
        assert row.tokens == reviewer.cost(evidence) == sum(counts) + len(readings) * len(yard.slots)


def test_pixels_are_a_second_opinion(reviewer: MiniReviewer, mixed: list[Evidence]) -> None:
    rows = [row for row in (reviewer.prepare(e).payload for e in mixed) if row.crop is not None]
    assert rows
    network, prefix = reviewer.files.network, reviewer.files.network.prefix_cache()
    with torch.inference_mode():
        seen = network(collate(rows, network.layout), prefix)
        blind = network(collate([replace(row, crop=None) for row in rows], network.layout), prefix)
    for table, one, other, heat in zip(
        reviewer.probabilities(rows), seen, blind, reviewer.files.temperatures, strict=True
    ):
        geometric = torch.softmax((one + other).double() / 2 / heat, 1)
        torch.testing.assert_close(table, geometric, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_plain_hugging_face_forward_gives_the_same(folder: Path, reviewer: MiniReviewer, mixed: list[Evidence]) -> None:
    """No prefix cache, no padding, placeholders and `mm_encoder_outputs` instead of our embeddings: same logits."""
    vlm = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    network, ids = reviewer.files.network, reviewer.files.network.ids
    rows = [reviewer.prepare(e).payload for e in mixed]
    cached = network(collate(rows, network.layout), network.prefix_cache())
    for index, row in enumerate(rows):
        visual, counts = network.visual(collate([row], network.layout))
        tokens = torch.tensor([[*ids.prefix, *[ids.image] * int(counts[0]), *ids.markers]])
        given = {"image": BaseModelOutputWithPooling(pooler_output=[visual[0]])}
        logits = vlm(input_ids=tokens, mm_encoder_outputs=given, logits_to_keep=len(ids.markers)).logits[0]
        for slot, options in enumerate(ids.options):
            torch.testing.assert_close(logits[slot, list(options)], cached[slot][index], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_pixel_path_is_hugging_faces(folder: Path, reviewer: MiniReviewer, yard: Task, profile: Profile) -> None:
    """`pixel_values` through the stock class, against the crop lane injected by us."""
    vlm = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    network, ids = reviewer.files.network, reviewer.files.network.ids
    features = [reviewer.prepare(synthetic_evidence(yard, profile, s, pixels=True)[0]).payload for s in (1, 2)]
    crops = collate(features, network.layout).crops
    seen = network.see(crops)
    ours = network.answer(seen, torch.full((2,), seen.shape[1]), network.prefix_cache())
    tokens = torch.tensor([[*ids.prefix, *[ids.image] * network.crop_tokens, *ids.markers]] * 2)
    logits = vlm(input_ids=tokens, pixel_values=crops, logits_to_keep=len(ids.markers)).logits
    for slot, options in enumerate(ids.options):
        torch.testing.assert_close(logits[:, slot, list(options)], ours[slot], atol=1e-4, rtol=1e-4)


def test_folder_is_what_was_saved(folder: Path, reviewer: MiniReviewer, mixed: list[Evidence], tmp_path: Path) -> None:
    files = load_reviewer_files(folder)
    save_reviewer(tmp_path, files.task, files.network, files.tokenizer, list(files.profiles.values()))
    again = load_reviewer(f"mini:{tmp_path}")
    assert again.name == reviewer.name
    assert again.profiles == reviewer.profiles
    first, second = (r.score([r.prepare(e) for e in mixed]) for r in (reviewer, again))
    assert max(map(gap, first, second)) < TOLERANCE
    assert (
        AutoTokenizer.from_pretrained(tmp_path).decode(files.network.ids.options[0][0])
        == files.task.slots[0].options[0]
    )


def test_temperature_flattens_and_changes_the_name(
    folder: Path, reviewer: MiniReviewer, mixed: list[Evidence], tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    save_temperatures(tmp_path, reviewer.task, [3.0] * 4, {})
    warm = MiniReviewer.load(str(tmp_path))
    assert warm.name != reviewer.name
    cold_answer, warm_answer = (r.score([r.prepare(mixed[0])])[0] for r in (reviewer, warm))
    for slot in cold_answer:
        assert warm_answer[slot].option == cold_answer[slot].option
        assert warm_answer[slot].confidence < cold_answer[slot].confidence


def test_another_trunk_is_refused_by_name(reviewer: MiniReviewer, yard: Task) -> None:
    other = synthetic_profile(task="yard", channels=(24, 32, 16))
    with pytest.raises(UnknownProfileError, match=f"{other.sha256[:12]}.*served: {min(reviewer.profiles)[:12]}"):
        reviewer.prepare(synthetic_evidence(yard, other, 0)[0])


def test_another_task_is_refused(reviewer: MiniReviewer, mixed: list[Evidence]) -> None:
    with pytest.raises(EvidenceError, match="'pcb' sent to a reviewer of 'yard'"):
        reviewer.prepare(replace(mixed[0], task="pcb"))


@pytest.mark.parametrize(
    "name", ["reviewer.json", "config.json", "tokenizer.json", "model.safetensors", "projector.safetensors"]
)
def test_a_missing_or_broken_file_is_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(b"not what it was")
    with pytest.raises(ModelError) as broken:
        MiniReviewer.load(str(tmp_path))
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name) as missing:
        MiniReviewer.load(str(tmp_path))
    for error in (broken, missing):
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)


def test_code_in_a_folder_is_never_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "own", dirs_exist_ok=True)
    own, ran = tmp_path / "own", tmp_path / "ran"
    (own / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    for name, code in (("tokenizer_config.json", "AutoTokenizer"), ("config.json", "AutoConfig")):
        described = json.loads((own / name).read_text())
        described |= {"auto_map": {code: "own.Own"}, "model_type": "own", "tokenizer_class": "Own"}
        (own / name).write_text(json.dumps(described))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    with pytest.raises(ModelError, match="cannot be loaded"):
        MiniReviewer.load(str(own))
    assert not asked
    assert not ran.exists()


def test_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    told = {"base_model_name_or_path": str(folder), "peft_type": "LORA", "target_modules": ["q_proj"], "r": 2}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"adapter_config\.json: .*merge it into its base.*fusion export lora"):
        MiniReviewer.load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("config.json", ("text_config", "num_attention_heads"), 5),
        ("config.json", ("text_config", "num_attention_heads"), 0),
        ("config.json", ("vision_config", "patch_size"), 0),
        ("config.json", ("image_seq_length",), "x"),
        ("tokenizer_config.json", (), []),
        ("reviewer.json", ("projector_hidden",), -1),
        ("reviewer.json", ("projector_hidden",), 10**7),
        ("reviewer.json", ("layout", "channels"), [-3, 2, 1]),
        ("reviewer.json", ("layout", "channels"), [10**9, 2, 1]),
        ("reviewer.json", ("layout", "parts"), [-3, 2, 1]),
        ("reviewer.json", ("layout", "strides"), [0, 16, 32]),
        ("reviewer.json", ("profiles",), [3]),
        ("reviewer.json", ("profiles",), []),
    ],
)
def test_a_damaged_value_is_one_line(
    folder: Path, tmp_path: Path, name: str, path: tuple[str, ...], value: Any
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    described = json.loads((folder / name).read_text())
    place = described
    for key in path[:-1]:
        place = place[key]
    if path:
        place[path[-1]] = value
    (tmp_path / name).write_text(json.dumps(described if path else value))
    with pytest.raises(ModelError) as told:
        MiniReviewer.load(str(tmp_path))
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


def test_weights_of_another_shape_or_no_number_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    described = json.loads((folder / "reviewer.json").read_text())
    described["projector_hidden"] += 1
    (tmp_path / "reviewer.json").write_text(json.dumps(described))
    with pytest.raises(ModelError, match="cannot be loaded"):
        MiniReviewer.load(str(tmp_path))
    files = load_reviewer_files(folder)
    with torch.no_grad():
        files.network.projector.map_places[0, 0] = torch.nan
    save_reviewer(tmp_path, files.task, files.network, files.tokenizer, list(files.profiles.values()))
    with pytest.raises(ModelError, match="not finite"):
        MiniReviewer.load(str(tmp_path))


def test_no_such_reviewer() -> None:
    with pytest.raises(ModelError, match="mini:nowhere"):
        load_reviewer("mini:nowhere")


def test_half_precision_folder_is_small_and_ordinary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["dtype"] == "float16"
    assert np.isclose(json.loads((folder / "reviewer.json").read_text())["layout"]["margin"], 0.2)
