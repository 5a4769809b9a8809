"""A reviewer-mini on disk: an ordinary Hugging Face folder, and beside it what our evidence needs.

config.json model.safetensors tokenizer.json tokenizer_config.json   a LlavaForConditionalGeneration, float16
and the files of `fusion.review.folder`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusion.codec import Profile
from fusion.errors import ModelError
from fusion.review.folder import (
    CALIBRATION,
    DESCRIPTION,
    PROJECTOR,
    RETRAIN,
    fingerprint,
    first_line,
    load_evidence_files,
    read_json,
    refuse_adapter,
    save_evidence_files,
)
from fusion.review.layout import FeatureLayout
from fusion.review.model import ReviewerNetwork, ReviewerSize, build_vlm
from fusion.review.projector import EvidenceProjector
from fusion.review.prompt import PromptIds, build_tokenizer
from fusion.review.together import Combinations
from fusion.task import Task

_MODEL = "model.safetensors"


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
    from transformers.utils import logging

    logging.disable_progress_bar()
    save_evidence_files(folder, task, network.projector, profiles)
    copy.deepcopy(network.vlm).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / _MODEL).chmod(0o644)


def load_reviewer_files(folder: Path, *, device: str = "cpu") -> ReviewerFiles:
    """Read a folder `save_reviewer` wrote. Raises `ModelError` naming the file that is missing or wrong."""
    refuse_adapter(folder)
    for name in (DESCRIPTION, "config.json", "tokenizer.json", _MODEL):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder / name}: missing, so there is no reviewer here; {RETRAIN} or give another folder"
            )
    width = _width(folder)
    evidence = load_evidence_files(folder, width)
    vlm, tokenizer = _vlm(folder)
    network = ReviewerNetwork(vlm, evidence.projector, PromptIds.of(evidence.task, tokenizer))
    if not all(torch.isfinite(p).all() for p in network.parameters()):
        raise ModelError(f"{folder}: its weights hold numbers that are not finite; {RETRAIN}")
    return ReviewerFiles(
        evidence.task,
        network.to(device).eval(),
        tokenizer,
        evidence.profiles,
        evidence.temperatures,
        fingerprint(folder, (_MODEL, PROJECTOR, "tokenizer.json", DESCRIPTION, CALIBRATION)),
        evidence.together,
    )


def _width(folder: Path) -> int:
    try:
        return int(read_json(folder / "config.json")["text_config"]["hidden_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: tells no width of a text model ({error}); {RETRAIN}") from None


def _vlm(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, LlavaForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        vlm, report = LlavaForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # noqa: BLE001 configurations and tokenizers have no root of their own
        raise ModelError(f"{folder}: its model cannot be loaded ({first_line(error)}); {RETRAIN}") from None
    if report["missing_keys"]:
        raise ModelError(f"{folder / _MODEL}: lacks {min(report['missing_keys'])}; {RETRAIN}")
    return vlm, tokenizer
