"""What `fusion train projector` makes for a pretrained model: its way of reading our evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.codec import Profile
from fusion.errors import ModelError
from fusion.review.folder import (
    CALIBRATION,
    DESCRIPTION,
    PROJECTOR,
    EvidenceFiles,
    fingerprint,
    load_evidence_files,
    save_evidence_files,
)
from fusion.review.hub.families import Family
from fusion.review.hub.model import HubModel
from fusion.review.layout import FeatureLayout
from fusion.review.projector import EvidenceProjector
from fusion.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """A loaded projector of a model; `fingerprint` is its own."""

    files: EvidenceFiles
    fingerprint: str


def visual_width(family: Family) -> int:
    """Numbers of a visual token, those for the first layers included."""
    return family.width * (1 + family.deep)


def new_projector(family: Family, layout: FeatureLayout, hidden: int) -> EvidenceProjector:
    """One with random weights (torch's seed)."""
    return EvidenceProjector(layout, visual_width(family), hidden)


def save_projected(
    folder: Path, task: Task, projector: EvidenceProjector, profiles: Sequence[Profile], opened: HubModel
) -> None:
    """Write it, with the digest of the files of the model it was made for."""
    save_evidence_files(folder, task, projector, profiles, model=opened.label, model_sha256=opened.files_sha256)


def load_projected(folder: Path, opened: HubModel) -> Projected:
    """Read it. Raises `ModelError` when it is not there, damaged, or was made for another model.

    A model is known by its files, however it is run; earlier projectors hold its fingerprint instead.
    """
    files = load_evidence_files(folder, visual_width(opened.family))
    if files.described.get("model_sha256") not in {opened.files_sha256, opened.fingerprint}:
        raise ModelError(
            f"{folder}: was made for {files.described.get('model')} of other weights than {opened.label} has here; "
            "train it for this model: fusion train projector"
        )
    return Projected(files, fingerprint(folder, (PROJECTOR, DESCRIPTION, CALIBRATION)))
