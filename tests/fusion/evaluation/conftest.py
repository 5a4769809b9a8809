"""Reference figures of the official evaluators, and evaluators built of plain loops."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[3]
ORACLES = ROOT / "../shared/data/oracles"


@pytest.fixture
def kitti_oracle() -> Path:
    return _there(ORACLES / "kitti_eval")


@pytest.fixture
def nuscenes_oracle() -> Path:
    return _there(ORACLES / "nuscenes_eval")


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"no reference figures at {folder.resolve()}")
    return folder


@pytest.fixture(scope="session")
def loops() -> SimpleNamespace:
    """The benchmark's rivals and its made-up frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        from box_metrics import kitti_loops, nuscenes_loops, synthetic

    return SimpleNamespace(kitti=kitti_loops, nuscenes=nuscenes_loops, made_up=synthetic)
