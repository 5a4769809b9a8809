"""A fusion model that has learnt the made-up scenes, and its graphs: the slowest things here, made once."""

from pathlib import Path

import pytest

from fusion.model.build import FusionModel
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fuse import FusionRecipe, train_fusion
from fusion.training.fusion_bundle import PARITY, export_fusion
from fusion.training.scene_features import FeatureCache
from fusion.training.utterances import UtteranceBank


@pytest.fixture(scope="session")
def model(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path_factory: pytest.TempPathFactory
) -> FusionModel:
    recipe = FusionRecipe(
        epochs=8, batch=8, speech_steps=0, ema=0.8, warmup_steps=5, learning_rate=4e-3, threads=1, half=False
    )
    return train_fusion(cache, tmp_path_factory.mktemp("run"), recipe, spec=spec, bank=bank)


@pytest.fixture(scope="session")
def bundle(model: FusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checkpoint and graphs; not to be written to."""
    folder = tmp_path_factory.mktemp("bundle")
    found = export_fusion(model, folder)
    assert len(found) == 3 + 8
    assert max(found.values()) <= PARITY
    return folder
