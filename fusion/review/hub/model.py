"""A model of the hub, loaded: weights as safetensors only, and no code of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from fusion.errors import ModelError
from fusion.review.folder import first_line
from fusion.review.hub.families import Family
from fusion.review.hub.name import HubName


@dataclass(frozen=True, slots=True, eq=False)
class HubModel:
    """`label` is its name or its folder's, `fingerprint` the hex sha-256 of its weights."""

    family: Family
    label: str
    fingerprint: str


def open_model(called: HubName) -> HubModel:
    """Load it in evaluation mode. Raises `ModelError` that names it and says what to do."""
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    folder = called.folder or _fetched(called.where)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: there are no weights as safetensors; pickles are not read, convert them first")
    if called.device != "cpu" and not torch.cuda.is_available():
        raise ModelError(f"{called.where}: device {called.device!r} is asked for, and torch sees no GPU here")
    logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, called.dtype), use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(f"{called.where}: cannot be loaded ({first_line(error)})") from None
    try:
        family = Family(model.to(called.device).eval(), processor)
    except ModelError as error:
        raise ModelError(f"{called.where}: {error}") from None
    label = called.folder.resolve().name if called.folder else called.where.replace("/", "--")
    return HubModel(family, label, _fingerprint(folder))


def _fetched(name: str) -> Path:
    """The folder of a name of the hub. Raises `ModelError`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"hf:{name}: neither a folder nor in the hub's cache, and it cannot be fetched ({first_line(error)}); "
            "give the folder of a downloaded model"
        ) from None


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
