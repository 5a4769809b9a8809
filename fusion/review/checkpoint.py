"""A reviewer on disk: an ordinary Hugging Face folder, and beside it what our evidence needs.

config.json model.safetensors tokenizer.json tokenizer_config.json   a LlavaForConditionalGeneration, float16
projector.safetensors     the evidence projector, float16
reviewer.json             format, task, evidence layout, widths
calibration.json          one temperature a slot; written after training, 1 when absent
profiles/SHA/             the codec profile of every trunk whose maps are read
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusion.codec import Profile
from fusion.errors import ModelError
from fusion.review.layout import FeatureLayout
from fusion.review.model import ReviewerNetwork, ReviewerSize, build_vlm
from fusion.review.projector import EvidenceProjector
from fusion.review.prompt import PromptIds, build_tokenizer
from fusion.review.together import Combinations, load_together
from fusion.task import Task

FORMAT = 1
CALIBRATION = "calibration.json"
_WEIGHTS = ("model.safetensors", "projector.safetensors")
_RETRAIN = "train it again with 'fusion train reviewer'"


@dataclass(frozen=True, slots=True, eq=False)
class ReviewerFiles:
    """A loaded reviewer; `network` is in float32 and evaluation mode, `temperatures` go slot by slot."""

    task: Task
    network: ReviewerNetwork
    tokenizer: Any
    profiles: dict[str, Profile]
    temperatures: tuple[float, ...]
    fingerprint: str
    together: Combinations | None = None


def build_network(task: Task, layout: FeatureLayout, size: ReviewerSize) -> tuple[ReviewerNetwork, Any]:
    """A network with random weights (torch's seed) and its tokenizer."""
    tokenizer = build_tokenizer(task)
    ids = PromptIds.of(task, tokenizer)
    vlm = build_vlm(size, len(tokenizer), ids, layout.crop)
    return ReviewerNetwork(vlm, EvidenceProjector(layout, size.hidden, size.projector), ids), tokenizer


def save_reviewer(
    folder: Path, task: Task, network: ReviewerNetwork, tokenizer: Any, profiles: Sequence[Profile]
) -> None:
    """Write everything but the calibration; a calibration left from other weights is removed."""
    from safetensors.torch import save_file
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CALIBRATION).unlink(missing_ok=True)
    copy.deepcopy(network.vlm).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    half = {name: value.detach().half().contiguous() for name, value in network.projector.state_dict().items()}
    save_file(half, folder / "projector.safetensors")
    for name in _WEIGHTS:
        (folder / name).chmod(0o644)
    for profile in profiles:
        target = folder / "profiles" / profile.sha256
        target.mkdir(parents=True, exist_ok=True)
        profile.save(target)
    described = {
        "format": FORMAT,
        "task": task.model_dump(mode="json"),
        "layout": network.layout.model_dump(mode="json"),
        "projector_hidden": network.projector.opinion[0].out_features,
        "profiles": [profile.sha256 for profile in profiles],
    }
    (folder / "reviewer.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def save_temperatures(folder: Path, task: Task, temperatures: Sequence[float], facts: dict[str, Any]) -> None:
    """Write `calibration.json`; `facts` say on what they were fitted."""
    slots = {slot.name: float(t) for slot, t in zip(task.slots, temperatures, strict=True)}
    text = json.dumps({"temperatures": slots, **facts}, indent=1)
    (folder / CALIBRATION).write_text(text + "\n", encoding="utf-8")


def load_reviewer_files(folder: Path, *, device: str = "cpu") -> ReviewerFiles:
    """Read a folder `save_reviewer` wrote. Raises `ModelError` naming the file that is missing or wrong."""
    for name in ("reviewer.json", "config.json", "tokenizer.json", *_WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder / name}: missing, so there is no reviewer here; {_RETRAIN} or give another folder"
            )
    described = _json(folder / "reviewer.json")
    if described.get("format") != FORMAT:
        raise ModelError(f"{folder / 'reviewer.json'}: format {described.get('format')!r}; this program reads {FORMAT}")
    try:
        task = Task.model_validate(described["task"])
        layout = FeatureLayout.model_validate(described["layout"])
        hidden, served = int(described["projector_hidden"]), list(described["profiles"])
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder / 'reviewer.json'}: not as it was written ({_first_line(error)}); {_RETRAIN}"
        ) from None
    network, tokenizer = _network(folder, task, layout, hidden)
    profiles = {}
    for sha256 in served:
        profile = Profile.load(folder / "profiles" / sha256)
        if profile.sha256 != sha256:
            raise ModelError(f"{folder / 'profiles' / sha256}: holds profile {profile.sha256[:12]} instead; {_RETRAIN}")
        profiles[sha256] = profile
    network = network.to(device).eval()
    return ReviewerFiles(
        task,
        network,
        tokenizer,
        profiles,
        _temperatures(folder, task),
        _fingerprint(folder),
        load_together(folder, task),
    )


def _network(folder: Path, task: Task, layout: FeatureLayout, hidden: int) -> tuple[ReviewerNetwork, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, LlavaForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        vlm, report = LlavaForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        projector = EvidenceProjector(layout, vlm.config.text_config.hidden_size, hidden)
        projector.load_state_dict({k: v.float() for k, v in load_file(folder / "projector.safetensors").items()})
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: its weights cannot be loaded ({_first_line(error)}); {_RETRAIN}") from None
    if report["missing_keys"]:
        raise ModelError(f"{folder / 'model.safetensors'}: lacks {min(report['missing_keys'])}; {_RETRAIN}")
    network = ReviewerNetwork(vlm, projector, PromptIds.of(task, tokenizer))
    if not all(torch.isfinite(p).all() for p in network.parameters()):
        raise ModelError(f"{folder}: its weights hold numbers that are not finite; {_RETRAIN}")
    return network, tokenizer


def _temperatures(folder: Path, task: Task) -> tuple[float, ...]:
    path = folder / CALIBRATION
    if not path.is_file():
        return (1.0,) * len(task.slots)
    try:
        values = tuple(float(_json(path)["temperatures"][slot.name]) for slot in task.slots)
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            f"{path}: needs a temperature for every slot of {task.name}; calibrate the reviewer again"
        ) from None
    if not all(0.01 <= value <= 100 for value in values):
        raise ModelError(f"{path}: a temperature is outside 0.01..100; calibrate the reviewer again")
    return values


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (*_WEIGHTS, "tokenizer.json", "reviewer.json", CALIBRATION):
        path = folder / name
        digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({_first_line(error)}); {_RETRAIN}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: is not a JSON object; {_RETRAIN}")
    return values


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
