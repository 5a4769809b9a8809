"""Queries over the ground: cameras and LiDAR land in the right cells, absence is real, peaks become objects."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.encoders.tokens import Tokens
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, invert, rigid
from fusion.model.bev import Views
from fusion.model.build import FusionModel, build_fusion, map_size, peak_reader
from fusion.model.centres import BevOutputs, Centres
from fusion.model.sizes import tiny_spec
from fusion.preparation.fusion_spec import BEV, BevSpec, FusionSpec
from fusion.preparation.pillars import PillarGrid
from fusion.task import Task

GRID = PillarGrid(x=0.0, y=-8.0, cell=1.0, rows=16, columns=16)
CAMERAS = 2


@pytest.fixture(scope="module")
def ground() -> FusionModel:
    torch.manual_seed(4)
    return build_fusion(_spec()).eval()


def _spec() -> FusionSpec:
    sensors = {"camera": CAMERAS, "lidar": 1, "speech": 1}
    bev = BevSpec(heights=(0.2, 1.0), channels=16, peaks=3)
    return replace(tiny_spec(Task.load("yard")), layout=BEV, grid=GRID, sensors=sensors, bev=bev, points=256)


def _views() -> Tensor:
    """Both cameras look ahead from a metre above the ground."""
    mount = rigid(np.eye(3), np.array([0.0, 0.0, 1.0])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    camera = CameraCalibration.pinhole(128, 64, 1.6, mount)
    scale = np.diag([1 / camera.width, 1 / camera.height, 1.0])
    matrix = scale @ camera.k @ invert(camera.ego_from_camera)[:3]
    return torch.from_numpy(matrix).float().expand(1, CAMERAS, 3, 4).clone()


def _sensors(model: FusionModel, seed: int = 1) -> dict[str, Tokens]:
    spec, generator = model.spec, torch.Generator().manual_seed(seed)
    rows, columns = spec.camera_map
    counts = {"camera": rows * columns, "lidar": 64, "speech": model.speech.frames + 1}
    sensors = {}
    for name, share in counts.items():
        count = spec.sensors[name]
        drawn = torch.rand(2, count, share, spec.width, generator=generator)
        there = torch.ones(1, count, dtype=torch.bool)
        sensors[name] = Tokens.of_sensors(drawn[0], drawn[1], there, torch.full((1, count), 0.1))
    return sensors


def _without(tokens: Tokens, sensor: int | None, count: int) -> Tokens:
    """NaN in everything of one sensor, or of all."""
    gone = torch.zeros(1, count, dtype=torch.bool)
    gone[:, slice(None) if sensor is None else sensor] = True
    gone = gone.repeat_interleave(tokens.valid.shape[1] // count, 1)
    nan = gone[..., None]
    return Tokens(
        tokens.features.masked_fill(nan, torch.nan),
        tokens.positions.masked_fill(nan, torch.nan),
        tokens.valid & ~gone,
        tokens.age.masked_fill(gone, torch.nan),
    )


def _equal(one: Any, other: Any) -> None:
    for name, a, b in zip(one._fields, one, other, strict=True):
        if a is not None:
            assert bool(torch.isfinite(a.float()).all()), name
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("there", list(product((True, False), repeat=3)))
@torch.inference_mode()
def test_masked_equals_left_out(ground: FusionModel, there: tuple[bool, ...]) -> None:
    sensors, views = _sensors(ground), Views(_views())
    present = dict(zip(sensors, there, strict=True))
    counts = ground.spec.sensors
    masked = {n: t if present[n] else _without(t, None, counts[n]) for n, t in sensors.items()}
    dropped = {n: t for n, t in sensors.items() if present[n]}
    _equal(ground.fuser(masked, views), ground.fuser(dropped, views))


@torch.inference_mode()
def test_one_camera_missing_is_finite_told_and_not_read(ground: FusionModel) -> None:
    sensors = _sensors(ground)
    camera = _without(sensors["camera"], 1, CAMERAS)
    views = _views()
    views[:, 1] = torch.nan
    answer = ground.fuser({**sensors, "camera": camera}, Views(views))
    assert answer.sensor_present.tolist() == [[True, False, True, True]]
    share = camera.features.shape[1] // CAMERAS
    other = Tokens(*(x.clone() for x in camera))
    other.features[:, share:] = 7.0
    _equal(answer, ground.fuser({**sensors, "camera": other}, Views(views)))


@torch.inference_mode()
def test_a_cell_sees_what_the_camera_shows_there(ground: FusionModel) -> None:
    rows, columns = ground.spec.camera_map
    features = torch.zeros(CAMERAS, rows, columns, ground.spec.width)
    features[:, :, : columns // 2] = 1.0  # the left half of the picture
    there = torch.ones(1, CAMERAS, dtype=torch.bool)
    flat = features.flatten(1, 2)
    camera = Tokens.of_sensors(flat, flat, there, torch.zeros(1, CAMERAS))
    shown, _ = ground.fuser.queries._seen(camera, _views())
    seen, places = shown[0, :, 0], ground.fuser.queries.places[0]
    ahead = (places[:, 0] > 4) & (places[:, 1].abs() < 0.8 * places[:, 0])
    left, right = ahead & (places[:, 1] > 1.5), ahead & (places[:, 1] < -1.5)
    assert bool(left.any())
    assert bool(right.any())
    assert float(seen[left].min()) > 0.9
    assert float(seen[right].max()) < 0.1


def test_peaks_become_objects_where_they_are() -> None:
    spec = _spec()
    rows, columns = map_size(spec)
    assert (rows, columns) == (16, 16)
    heat = torch.full((1, 6, rows, columns), -9.0)
    heat[0, 2, 3, 5], heat[0, 2, 3, 6], heat[0, 4, 10, 1] = 4.0, 3.0, 2.0  # the second is on the first one's slope
    box = torch.zeros(1, 8, rows, columns)
    box[0, 0, 3, 5], box[0, 2] = 0.25, 0.7
    empty = torch.zeros(1, 1)
    maps = BevOutputs(heat, box, torch.ones(1, 2, rows, columns), None, None, empty, None, empty[0], empty > 0, empty)
    found: Centres = peak_reader(spec)(maps)
    assert found.labels[0, :2].tolist() == [2, 4]
    torch.testing.assert_close(found.box3d[0, 0, :3], torch.tensor([3.75, -2.5, 0.7]))
    torch.testing.assert_close(found.box3d[0, 1, :3], torch.tensor([10.5, -6.5, 0.7]))
    assert float(found.scores[0, 2]) < 0.01
