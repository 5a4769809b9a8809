"""What every reviewer that reads our evidence keeps beside its model.

projector.safetensors     the evidence projector, float16
reviewer.json             format, task, evidence layout, widths
calibration.json          one temperature a slot; written after training, 1 when absent
together.json             which answers go together
profiles/SHA/             the codec profile of every trunk whose maps are read
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusion.codec import Profile
from fusion.errors import ModelError
from fusion.json_text import parse_json
from fusion.review.layout import FeatureLayout
from fusion.review.projector import EvidenceProjector
from fusion.review.together import Combinations, load_together
from fusion.task import Task

FORMAT = 1
CALIBRATION, DESCRIPTION, PROJECTOR = "calibration.json", "reviewer.json", "projector.safetensors"
ADAPTER = "adapter_config.json"
RETRAIN = "train it again"


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceFiles:
    """A loaded folder; `described` is all of `reviewer.json`, `temperatures` go slot by slot."""

    task: Task
    layout: FeatureLayout
    projector: EvidenceProjector
    profiles: dict[str, Profile]
    temperatures: tuple[float, ...]
    together: Combinations | None
    described: dict[str, Any]


def save_evidence_files(
    folder: Path, task: Task, projector: EvidenceProjector, profiles: Sequence[Profile], **more: Any
) -> None:
    """Write everything but what is fitted afterwards; a calibration left from other weights is removed."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CALIBRATION).unlink(missing_ok=True)
    half = {name: value.detach().cpu().half().contiguous() for name, value in projector.state_dict().items()}
    save_file(half, folder / PROJECTOR)
    (folder / PROJECTOR).chmod(0o644)
    for profile in profiles:
        target = folder / "profiles" / profile.sha256
        target.mkdir(parents=True, exist_ok=True)
        profile.save(target)
    described = {
        "format": FORMAT,
        "task": task.model_dump(mode="json"),
        "layout": projector.layout.model_dump(mode="json"),
        "projector_hidden": projector.opinion[0].out_features,
        "profiles": [profile.sha256 for profile in profiles],
        **more,
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def load_evidence_files(folder: Path, width: int) -> EvidenceFiles:
    """Read a folder for a model of hidden `width`. Raises `ModelError` naming the file that is missing or wrong."""
    for name in (DESCRIPTION, PROJECTOR):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder / name}: missing, so there is no reviewer here; {RETRAIN} or give another folder"
            )
    described = read_json(folder / DESCRIPTION)
    if described.get("format") != FORMAT:
        raise ModelError(f"{folder / DESCRIPTION}: format {described.get('format')!r}; this program reads {FORMAT}")
    try:
        task = Task.model_validate(described["task"])
        layout = FeatureLayout.model_validate(described["layout"])
        hidden, served = int(described["projector_hidden"]), _served(described["profiles"])
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{folder / DESCRIPTION}: not as it was written ({first_line(error)}); {RETRAIN}") from None
    return EvidenceFiles(
        task,
        layout,
        _projector(folder, layout, width, hidden),
        _profiles(folder, served),
        _temperatures(folder, task),
        load_together(folder, task),
        described,
    )


def save_temperatures(folder: Path, task: Task, temperatures: Sequence[float], facts: dict[str, Any]) -> None:
    """Write `calibration.json`; `facts` say on what they were fitted."""
    slots = {slot.name: float(t) for slot, t in zip(task.slots, temperatures, strict=True)}
    text = json.dumps({"temperatures": slots, **facts}, indent=1)
    (folder / CALIBRATION).write_text(text + "\n", encoding="utf-8")


def fingerprint(folder: Path, names: Sequence[str]) -> str:
    """Hex sha-256 over the files `names` of `folder`; one that is not there counts as empty."""
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `ModelError` naming the file."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({first_line(error)}); {RETRAIN}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: is not a JSON object; {RETRAIN}")
    return values


def refuse_adapter(folder: Path) -> None:
    """Raises `ModelError` where a folder holds a PEFT adapter, whose base would be loaded from wherever it says."""
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"{folder / ADAPTER}: this is an adapter, whose base lies elsewhere; merge it into its base and give the "
            "whole model: fusion export lora, or peft's merge_and_unload for one that was made elsewhere"
        )


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _projector(folder: Path, layout: FeatureLayout, width: int, hidden: int) -> EvidenceProjector:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = {k: v.float() for k, v in load_file(folder / PROJECTOR).items()}
        with torch.device("meta"):  # a wrong size is found before it is allocated
            EvidenceProjector(layout, width, hidden).load_state_dict(weights, assign=True)
        projector = EvidenceProjector(layout, width, hidden)
        projector.load_state_dict(weights)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: its weights cannot be loaded ({first_line(error)}); {RETRAIN}") from None
    if not all(torch.isfinite(p).all() for p in projector.parameters()):
        raise ModelError(f"{folder}: its weights hold numbers that are not finite; {RETRAIN}")
    return projector


def _served(profiles: Any) -> list[str]:
    if not isinstance(profiles, list) or not profiles or not all(isinstance(sha256, str) for sha256 in profiles):
        raise ValueError("profiles: a list of fingerprints, one or more")
    return profiles


def _profiles(folder: Path, served: Sequence[str]) -> dict[str, Profile]:
    profiles = {}
    for sha256 in served:
        profile = Profile.load(folder / "profiles" / sha256)
        if profile.sha256 != sha256:
            raise ModelError(f"{folder / 'profiles' / sha256}: holds profile {profile.sha256[:12]} instead; {RETRAIN}")
        profiles[sha256] = profile
    return profiles


def _temperatures(folder: Path, task: Task) -> tuple[float, ...]:
    path = folder / CALIBRATION
    return read_temperatures(path, task).values if path.is_file() else (1.0,) * len(task.slots)


@dataclass(frozen=True, slots=True)
class ReadTemperatures:
    """One temperature a slot, and all else the file says."""

    values: tuple[float, ...]
    described: dict[str, Any]


def read_temperatures(path: Path, task: Task) -> ReadTemperatures:
    """A file of temperatures. Raises `ModelError` unless it has one in 0.01..100 for every slot."""
    described = read_json(path)
    try:
        values = tuple(float(described["temperatures"][slot.name]) for slot in task.slots)
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            f"{path}: needs a temperature for every slot of {task.name}; calibrate the reviewer again"
        ) from None
    if not all(0.01 <= value <= 100 for value in values):
        raise ModelError(f"{path}: a temperature is outside 0.01..100; calibrate the reviewer again")
    return ReadTemperatures(values, described)
