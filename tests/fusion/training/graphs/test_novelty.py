"""Reference tokens learnt from scenes, and kept true to the graph they were made for."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from fusion.cli import main
from fusion.errors import ModelError
from fusion.model.build import FusionModel, build_fusion
from fusion.perception.novelty import FILE, ReferenceTokens
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fusion_commands import FUSER
from fusion.training.fusion_data import SceneSampler
from fusion.training.novelty import item_tokens, learn_references
from fusion.training.scene_features import FeatureCache
from fusion.types import Modality


def test_the_tokens_of_the_scenes_make_a_cloud_for_each_set_of_sensors(
    larger_cache: FeatureCache, spec: FusionSpec
) -> None:
    model, sampler = build_fusion(spec), SceneSampler(larger_cache, spec)
    references, facts = learn_references(model, sampler, sampler)
    assert set(references.clouds) == {"camera", "camera+lidar"}
    for pattern, present in (("all", {Modality.CAMERA, Modality.LIDAR}), ("no lidar", {Modality.CAMERA})):
        tokens, labels, right = item_tokens(model, sampler, pattern)
        assert len(tokens) == len(labels) == len(right) == 80
        told = np.array(references.distances(list(tokens), present))
        assert (told <= 1).mean() >= 0.95
        far = references.distances(list(tokens + 50 * tokens.std()), present)
        assert min(far) > 1
    assert facts["camera: training items"] == 80


def test_graphs_written_again_keep_their_references(
    larger_cache: FeatureCache, spec: FusionSpec, model: FusionModel, bundle: Path, tmp_path: Path
) -> None:
    """Would fail if a new export of the same model left a bundle that the device refuses."""
    sampler = SceneSampler(larger_cache, spec)
    shutil.copytree(bundle, tmp_path, dirs_exist_ok=True)
    graph = onnx.load(tmp_path / FUSER)
    graph.metadata_props.add(key="written by", value="an earlier exporter")
    onnx.save(graph, tmp_path / FUSER)
    earlier = hashlib.sha256((tmp_path / FUSER).read_bytes()).hexdigest()
    references, _ = learn_references(model, sampler, sampler)
    references.save(tmp_path, tmp_path / FUSER)
    (tmp_path / "card.json").write_text(json.dumps({"title": "tiny"}))
    main(["export", "--task", "yard", "--weights", str(tmp_path)])
    assert hashlib.sha256((tmp_path / FUSER).read_bytes()).hexdigest() != earlier
    found = ReferenceTokens.find(tmp_path, tmp_path / FUSER)
    assert found is not None
    assert set(found.clouds) == set(references.clouds)
    onnx.save(graph, tmp_path / FUSER)
    with pytest.raises(ModelError, match=FILE):
        ReferenceTokens.find(tmp_path, tmp_path / FUSER)
