"""Late and turned sensors show what they would have shown."""

import numpy as np
import pytest

from fusion.perception.detector import DetectorResult
from fusion.simulation.sample import SimulatedSample
from fusion.training.disturbance import CART_M_S, DISTURBANCES, Disturbance, disturbed

RNG = np.random.default_rng


def _moved(before: SimulatedSample, after: SimulatedSample) -> tuple[float, float]:
    """Metres along x that the LiDAR's points and the truth's boxes lie further off."""
    lidar = after.rig.ego_from_lidar["roof"][0, 3] - before.rig.ego_from_lidar["roof"][0, 3]
    boxes = [(a.box3d, b.box3d) for a, b in zip(after.truth.objects, before.truth.objects, strict=True)]
    return float(lidar), float(np.mean([a.x - b.x for a, b in boxes if a is not None and b is not None]))


def test_a_late_sweep_shows_things_further_off(first_scene: tuple[SimulatedSample, DetectorResult]) -> None:
    sample, _ = first_scene
    how = Disturbance("lidar", 0.2)
    assert _moved(sample, disturbed(sample, how, RNG(0))) == pytest.approx((0.2 * CART_M_S, 0.0))
    assert how.ages == (0.0, 0.2, 0.0)
    assert how.name == "lidar-late-200"


def test_a_late_picture_shows_things_the_cart_has_come_nearer_to(
    first_scene: tuple[SimulatedSample, DetectorResult],
) -> None:
    sample, _ = first_scene
    later = disturbed(sample, Disturbance("camera", 0.5), RNG(0))
    assert _moved(sample, later) == pytest.approx((-0.5 * CART_M_S, -0.5 * CART_M_S))
    assert later.image is sample.image


@pytest.mark.parametrize("degrees", [0.5, 2.0])
def test_a_turned_camera_is_off_by_that_angle(
    first_scene: tuple[SimulatedSample, DetectorResult], degrees: float
) -> None:
    sample, _ = first_scene
    turned = disturbed(sample, Disturbance(turned_deg=degrees), RNG(3)).rig.cameras["front"]
    before = sample.rig.cameras["front"]
    between = turned.ego_from_camera[:3, :3] @ before.ego_from_camera[:3, :3].T
    assert np.degrees(np.arccos((np.trace(between) - 1) / 2)) == pytest.approx(degrees, rel=1e-3)
    np.testing.assert_array_equal(turned.ego_from_camera[:3, 3], before.ego_from_camera[:3, 3])


def test_disturbances_have_names_of_their_own() -> None:
    assert len({how.name for how in DISTURBANCES}) == len(DISTURBANCES) == 9
