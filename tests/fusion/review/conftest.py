"""A tiny reviewer with random weights, built once, and evidence it can read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusion.codec import Profile
from fusion.codec.synthetic import synthetic_profile
from fusion.review.checkpoint import build_network, save_reviewer
from fusion.review.mini import MiniReviewer
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import synthetic_layout
from fusion.task import Task

TINY = ReviewerSize(
    hidden=48, layers=2, heads=4, mlp=64, vision_hidden=32, vision_layers=1, vision_heads=2, vision_mlp=48, projector=32
)


@pytest.fixture(scope="session")
def yard() -> Task:
    return Task.load("yard")


@pytest.fixture(scope="session")
def profile() -> Profile:
    return synthetic_profile(task="yard")


@pytest.fixture(scope="session")
def folder(yard: Task, profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    network, tokenizer = build_network(yard, synthetic_layout(yard, profile), TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)  # larger weights than at birth, so that answers differ visibly
    out = tmp_path_factory.mktemp("reviewer")
    save_reviewer(out, yard, network, tokenizer, [profile])
    return out


@pytest.fixture(scope="session")
def reviewer(folder: Path) -> MiniReviewer:
    torch.set_num_threads(1)
    return MiniReviewer.load(str(folder))
