"""Every named size makes a whole ground, and the graphs of a driving model equal it for each pattern of sensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.errors import ConfigError
from fusion.model.build import build_fusion
from fusion.model.sizes import SIZES, bev_spec, find_size
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.pillars import PillarGrid
from fusion.task import Task


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", ["kitti", "nuscenes"])
def test_sizes_cover_the_ground(size: str, task: str, tmp_path: Path) -> None:
    about = Task.load(task)
    spec = bev_spec(about, size)
    grid, area = spec.grid, about.area
    assert area is not None
    assert grid.x + grid.rows * grid.cell >= area.x[1] - 1e-6
    assert grid.y + grid.columns * grid.cell >= area.y[1] - 1e-6
    assert spec.image_height % 32 == spec.image_width % 32 == 0
    assert spec.sensors["camera"] == len([s for s in about.sensors.values() if s.modality == "camera"])
    spec.save(tmp_path)
    assert FusionSpec.load(tmp_path) == spec


def test_an_unknown_size_is_named() -> None:
    with pytest.raises(ConfigError, match="small, base, large"):
        find_size("huge")


def test_graphs_of_a_driving_model_equal_it(tmp_path: Path) -> None:
    from fusion.training.fusion_bundle import export_fusion

    spec = bev_spec(Task.load("kitti"), "small", image_height=64)
    grid = PillarGrid(x=0.0, y=-8.0, cell=2.0, rows=8, columns=8)
    spec = replace(spec, name="tiny", image_width=96, width=32, heads=2, layers=1, hidden=32, grid=grid, points=128)
    torch.manual_seed(5)
    model = build_fusion(spec).eval()
    torch.nn.init.normal_(model.fuser.heads.heatmap[-1].weight, std=4.0)  # peaks that stand out
    found = export_fusion(model, tmp_path)
    assert {"fuser with camera+lidar", "fuser with camera", "fuser with lidar", "fuser with nothing"} <= set(found)
    assert max(found.values()) < 1e-4
