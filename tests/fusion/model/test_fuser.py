"""Absence is real: masked equals left out, NaN never leaks, and items do not depend on their order."""

from itertools import product

import pytest
import torch
from torch import Tensor

from fusion.encoders.tokens import Tokens
from fusion.model.build import FusionModel
from fusion.model.heads import FusedOutputs
from fusion.model.items import Items, anchor_places

SENSORS = ("camera", "lidar", "speech")
PATTERNS = list(product((True, False), repeat=3))


def _sensors(ports: dict[str, Tensor]) -> dict[str, Tokens]:
    return {name: Tokens(*(ports[f"{name}_{part}"] for part in Tokens._fields)) for name in SENSORS}


def _items(ports: dict[str, Tensor]) -> Items:
    return Items(*(ports[name] for name in Items._fields))


def _close(one: FusedOutputs, other: FusedOutputs) -> None:
    for name, a, b in zip(FusedOutputs._fields, one, other, strict=True):
        assert bool(torch.isfinite(a).all()), name
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("there", PATTERNS)
@torch.inference_mode()
def test_masked_equals_left_out(model: FusionModel, ports: dict[str, Tensor], there: tuple[bool, ...]) -> None:
    present = dict(zip(SENSORS, there, strict=True))
    masked = {}
    for name, sensor in _sensors(ports).items():
        nan = torch.full_like(sensor.features, torch.nan)
        gone = Tokens(nan, nan, torch.zeros_like(sensor.valid), torch.full_like(sensor.age, torch.nan))
        masked[name] = sensor if present[name] else gone
    dropped = {name: sensor for name, sensor in _sensors(ports).items() if present[name]}
    _close(model.fuser(masked, _items(ports)), model.fuser(dropped, _items(ports)))


@torch.inference_mode()
def test_each_sensor_is_read(model: FusionModel, ports: dict[str, Tensor]) -> None:
    full = model.fuser(_sensors(ports), _items(ports))
    for name in SENSORS:
        less = {other: sensor for other, sensor in _sensors(ports).items() if other != name}
        assert not torch.allclose(full.item_tokens, model.fuser(less, _items(ports)).item_tokens, atol=1e-4)


@torch.inference_mode()
def test_an_old_reading_counts_differently(model: FusionModel, ports: dict[str, Tensor]) -> None:
    old = dict(ports, lidar_age=torch.full_like(ports["lidar_age"], 0.5))
    new = dict(ports, lidar_age=torch.zeros_like(ports["lidar_age"]))
    one, other = (model.fuser(_sensors(p), _items(ports)).latents for p in (old, new))
    assert not torch.allclose(one, other, atol=1e-5)


@torch.inference_mode()
def test_invalid_boxes_do_not_leak(model: FusionModel, ports: dict[str, Tensor]) -> None:
    valid = torch.arange(32)[None] < 5
    some = dict(ports, box_valid=valid)
    broken = dict(some)
    for name in ("boxes", "box_rays", "class_scores", "condition_scores", "item_place", "item_points"):
        value = some[name].clone()
        value[:, 5:] = torch.nan
        broken[name] = value
    _close(model.fuser(_sensors(some), _items(broken)), model.fuser(_sensors(some), _items(some)))


@torch.inference_mode()
def test_order_of_items_does_not_matter(model: FusionModel, ports: dict[str, Tensor]) -> None:
    order = torch.randperm(32)
    turned = dict(ports, **{name: ports[name][:, order] for name in Items._fields})
    one = model.fuser(_sensors(ports), _items(ports))
    other = model.fuser(_sensors(turned), _items(turned))
    torch.testing.assert_close(one.item_tokens[:, order], other.item_tokens, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.latents, other.latents, atol=1e-5, rtol=1e-4)


def test_any_tail_of_the_anchors_covers_the_fan() -> None:
    tail = anchor_places(32)[16:]
    distance = tail[:, :2].norm(dim=1)
    assert float(distance.min()) < 5
    assert float(distance.max()) > 10
    assert float(tail[:, 1].min()) < -1
    assert float(tail[:, 1].max()) > 1


@torch.inference_mode()
def test_a_batch_with_mixed_sensors_equals_its_samples(model: FusionModel) -> None:
    generator = torch.Generator().manual_seed(9)
    spec = model.spec
    rows, columns = spec.camera_map
    batch = {
        "p4": torch.randint(-9, 9, (3, 4, rows, columns), generator=generator, dtype=torch.int8)[:, None],
        "p5": torch.randint(-9, 9, (3, 4, rows // 2, columns // 2), generator=generator, dtype=torch.int8)[:, None],
        "rays": torch.rand(3, 1, rows * columns, 48, generator=generator),
        "points": torch.rand(3, 64, 4, generator=generator) * 8,
        "points_valid": torch.ones(3, 64, dtype=torch.bool),
        "pcm": torch.rand(3, spec.samples, generator=generator),
        "camera_available": torch.tensor([[True], [False], [True]]),
        "lidar_available": torch.tensor([True, True, False]),
        "speech_available": torch.tensor([False, True, False]),
        "camera_age": torch.rand(3, 1, generator=generator),
        "lidar_age": torch.rand(3, generator=generator),
        "speech_age": torch.rand(3, generator=generator),
    }
    batch |= dict(zip(Items._fields, _random_items(generator), strict=True))
    together, words, _ = model(batch)
    assert words.shape == (3, len(spec.words))
    for row in range(3):
        alone, _, _ = model({name: value[row : row + 1] for name, value in batch.items()})
        _close(FusedOutputs(*(x[row : row + 1] for x in together)), alone)


def _random_items(generator: torch.Generator) -> list[Tensor]:
    def drawn(*shape: int) -> Tensor:
        return torch.rand(3, *shape, generator=generator)

    return [
        drawn(32, 4),
        drawn(32, 48),
        drawn(32, 6),
        drawn(32) < 0.5,
        drawn(32, 3),
        drawn(32, 96, 7),
        drawn(32, 96) < 0.5,
        drawn(32, 6),
    ]
