"""Who is compared with whom, on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from fusion.model.build import FusionModel
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.disturbance import DISTURBANCES
from fusion.training.fusion_data import ModalityDropout, Presence
from subsets.rivals import concatenated, fused, half_size

CAMERA, LIDAR = Presence(lidar=False, speech=False), Presence(camera=False, speech=False)
SUBSETS: Mapping[str, Presence] = {
    "camera": CAMERA,
    "lidar": LIDAR,
    "camera+lidar": Presence(speech=False),
    "camera+speech": Presence(lidar=False),
    "lidar+speech": Presence(camera=False),
    "all": Presence(),
}
ALWAYS = ModalityDropout(0.0, 0.0)


@dataclass(frozen=True)
class Arm:
    """One competitor: how it is built, which sensors it learns from, and how often it goes without one."""

    build: Callable[[FusionSpec, torch.Tensor], FusionModel] = fused
    given: Presence = field(default_factory=Presence)
    dropout: ModalityDropout = field(default_factory=ModalityDropout)
    labels: float = 1.0
    start: str = ""
    objective: str = ""


ARMS: Mapping[str, Arm] = {
    "pre-masked": Arm(dropout=ALWAYS, objective="masked"),
    "pre-contrastive": Arm(dropout=ALWAYS, objective="contrastive"),
    "fused": Arm(),
    "all": Arm(dropout=ModalityDropout(0.0)),
    "camera": Arm(given=CAMERA, dropout=ALWAYS),
    "lidar": Arm(given=LIDAR, dropout=ALWAYS),
    "camera+lidar": Arm(given=SUBSETS["camera+lidar"], dropout=ALWAYS),
    "camera+speech": Arm(given=SUBSETS["camera+speech"], dropout=ALWAYS),
    "lidar+speech": Arm(given=SUBSETS["lidar+speech"], dropout=ALWAYS),
    "concat": Arm(concatenated),
    "late-camera": Arm(half_size, SUBSETS["camera+speech"], ModalityDropout(0.0)),
    "late-lidar": Arm(half_size, SUBSETS["lidar+speech"], ModalityDropout(0.0)),
    "dropout-25": Arm(dropout=ModalityDropout(0.25)),
    "dropout-75": Arm(dropout=ModalityDropout(0.75)),
    "labels-10": Arm(labels=0.1),
    "labels-10-masked": Arm(labels=0.1, start="pre-masked"),
    "labels-10-contrastive": Arm(labels=0.1, start="pre-contrastive"),
}


@dataclass(frozen=True)
class Case:
    """One way the test scenes are seen: `scenes` names a cache, `sound` a table of heard recordings."""

    presence: Presence = field(default_factory=Presence)
    scenes: str = "as-is"
    ages: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sound: str = "recorded"


CASES: dict[str, Case] = {name: Case(presence) for name, presence in SUBSETS.items()}
CASES["noisy speech"] = Case(sound="noisy")
CASES |= {how.name: Case(scenes=how.name, ages=how.ages) for how in DISTURBANCES}
DISTURBED = [name for name in CASES if name not in SUBSETS]


def cases_of(arm: str) -> list[str]:
    """The cases an arm is measured on."""
    if arm in {"fused", "all", "concat"}:
        return list(CASES)
    if arm == "late":
        return list(SUBSETS)
    if arm in SUBSETS:
        return [arm]
    return list(SUBSETS) if arm.startswith("dropout") else ["camera", "lidar", "all"]
