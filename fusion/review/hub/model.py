"""A model of the hub, loaded: weights as safetensors only, and no code of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fusion.errors import ModelError
from fusion.review.folder import first_line, refuse_adapter
from fusion.review.hub.families import Family
from fusion.review.hub.name import HubName

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_SHOWN = 64


@dataclass(frozen=True, slots=True, eq=False)
class HubModel:
    """`label` is its name or its folder's. `fingerprint` is the hex sha-256 of its weights, tokenizer and settings and
    of how it is run, `files_sha256` that of its files alone.
    """

    family: Family
    label: str
    fingerprint: str
    files_sha256: str


def open_model(called: HubName) -> HubModel:
    """Load it in evaluation mode. Raises `ModelError` that names it and says what to do."""
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    folder = called.folder or _fetched(called.where)
    refuse_adapter(folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: there are no weights as safetensors; pickles are not read, convert them first")
    if called.device != "cpu" and not torch.cuda.is_available():
        raise ModelError(f"{called.where}: device {called.device!r} is asked for, and torch sees no GPU here")
    logging.disable_progress_bar()
    with told_of(called):
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=getattr(torch, called.dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if report["missing_keys"]:
            raise ModelError(f"its weights lack {min(report['missing_keys'])}; fetch the model again")
        family = Family(model.to(called.device).eval(), processor)
    label = folder.resolve().name if called.folder else called.where.replace("/", "--")
    return HubModel(family, _NOT_A_NAME.sub("-", label)[-_SHOWN:], *fingerprints_of(folder, called))


@contextmanager
def told_of(called: HubName) -> Iterator[None]:
    """What goes wrong with the model becomes a `ModelError` of one line that names it."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{called.where}: {error}") from None
    except Exception as error:  # noqa: BLE001 loaders, tokenizers and devices have no root of their own
        raise ModelError(f"{called.where}: cannot be loaded ({type(error).__name__}: {first_line(error)})") from None


def _fetched(name: str) -> Path:
    """The folder of a name of the hub. Raises `ModelError`."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # noqa: BLE001 what a network does has no root of its own
        raise ModelError(
            f"hf:{name}: neither a folder nor in the hub's cache, and it cannot be fetched ({first_line(error)}); "
            "give the folder of a downloaded model"
        ) from None


def fingerprints_of(folder: Path, called: HubName) -> tuple[str, str]:
    """Hex sha-256 of all that can change an answer: weights, tokenizer, template, preprocessing, precision and the size
    of crops; and without the latter two, of the files alone.
    """
    files = b""
    for path in sorted(path for pattern in _FILES for path in folder.glob(pattern)):
        with path.open("rb") as file:
            files += path.name.encode() + hashlib.file_digest(file, "sha256").digest()
    run = f"{called.side} {called.dtype}".encode()
    return hashlib.sha256(run + files).hexdigest(), hashlib.sha256(files).hexdigest()
