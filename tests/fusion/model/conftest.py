"""A tiny fusion model with random weights, and inputs for it."""

import pytest
import torch

from fusion.model.build import FusionModel, build_fusion
from fusion.model.export import fuser_ports
from fusion.model.sizes import tiny_spec
from fusion.task import Task


@pytest.fixture(scope="session")
def model() -> FusionModel:
    torch.manual_seed(3)
    return build_fusion(tiny_spec(Task.load("yard"))).eval()


@pytest.fixture
def ports(model: FusionModel) -> dict[str, torch.Tensor]:
    """Every port of the fuser at random; all sensors there, all boxes valid."""
    generator = torch.Generator().manual_seed(5)
    drawn = {
        name: torch.rand(value.shape, generator=generator) < 0.7
        if value.dtype == torch.bool
        else torch.rand(value.shape, generator=generator)
        for name, value in fuser_ports(model).items()
    }
    drawn |= {f"{name}_valid": torch.ones_like(drawn[f"{name}_valid"]) for name in model.spec.sensors}
    drawn["box_valid"] = torch.ones_like(drawn["box_valid"])
    return drawn
