"""What a device feeds the graphs is what the model was trained on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fusion.model.build import FusionModel, build_fusion
from fusion.model.export import fuser_ports, fusion_graphs
from fusion.perception.detector import DetectorResult
from fusion.perception.fused import FusionStage
from fusion.preparation.fusion_spec import FusionSpec
from fusion.simulation.sample import SimulatedSample
from fusion.task import Task
from fusion.training.fusion_data import PATTERNS, SceneSampler
from fusion.training.scene_features import FeatureCache
from fusion.types import Availability, Modality, Reading, SensorSlot

NOW = 50_000_000_000


class TorchEngine:
    """Runs a graph's module in eager mode."""

    name = "torch"

    def __init__(self, module: nn.Module, outputs: tuple[str, ...], inputs: Mapping[str, torch.Tensor]) -> None:
        self.module, self.outputs = module, outputs
        self.inputs = {name: tuple(value.shape) for name, value in inputs.items()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            values = self.module(*(torch.from_numpy(np.asarray(inputs[name])) for name in self.inputs))
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}


def _stage(model: FusionModel) -> FusionStage:
    engines = {g.name: TorchEngine(g.module, g.outputs, g.inputs) for g in fusion_graphs(model)}
    assert set(engines["fuser"].inputs) == set(fuser_ports(model))
    return FusionStage(engines, model.spec, Task.load("yard"))


def test_the_device_and_training_see_the_same_scene(
    cache: FeatureCache, spec: FusionSpec, first_scene: tuple[SimulatedSample, DetectorResult]
) -> None:
    torch.manual_seed(4)
    model = build_fusion(spec).eval()
    sample, found = first_scene
    slots = {
        name: SensorSlot(Availability.PRESENT, 0, Reading(name, modality, NOW, payload))
        for name, modality, payload in (
            ("front", Modality.CAMERA, sample.image),
            ("roof", Modality.LIDAR, sample.cloud),
            ("mic", Modality.SPEECH, sample.audio),
        )
    }
    quiet = slots | {"mic": SensorSlot.absent()}
    scene = _stage(model).run(NOW, quiet, sample.rig, found)
    sampler = SceneSampler(cache, spec)
    batch = sampler.gather([sampler.evaluation(0, PATTERNS["no speech"])])
    with torch.inference_mode():
        trained, _, _ = model(batch)
    assert len(scene.objects) == 2
    for row, thing in enumerate(scene.objects):
        # The cache keeps points as float16.
        np.testing.assert_allclose(thing.token, trained.item_tokens[0, row].numpy(), atol=0.05)
        expected = trained.label_logits[0, row].softmax(0).numpy()
        np.testing.assert_allclose(list(thing.label_scores.values()), expected, atol=0.01)
    np.testing.assert_allclose(scene.latents, trained.latents[0].numpy(), atol=0.05)
    without = _stage(model).run(NOW, quiet | {"roof": SensorSlot.absent()}, sample.rig, found)
    batch = sampler.gather([sampler.evaluation(0, PATTERNS["camera only"])])
    with torch.inference_mode():
        blind, _, _ = model(batch)
    assert len(without.objects) == 2
    for row, thing in enumerate(without.objects):
        # Without LiDAR nothing of an item is measured by it, not even its place.
        assert thing.box3d is not None
        centre = [thing.box3d.x, thing.box3d.y, thing.box3d.z]
        np.testing.assert_allclose(centre, blind.box3d[0, row, :3].numpy(), atol=0.01)
    assert float(np.abs(without.latents - scene.latents).max()) > 0.1
