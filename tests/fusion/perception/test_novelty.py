"""Distance in fused-token space: what it means, what it is made for, and what is refused."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import ModelError
from fusion.perception.novelty import FILE, ReferenceTokens, TokenCloud, sensors_key
from fusion.types import Modality

CAMERA, LIDAR, SPEECH = Modality.CAMERA, Modality.LIDAR, Modality.SPEECH


def drawn(count, seed=0, *, width=16):
    """Tokens of three classes in a skewed space, and their labels."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(width, width))
    labels = rng.integers(0, 3, count)
    centres = np.random.default_rng(98).normal(size=(3, width)) * 8
    return ((rng.normal(size=(count, width)) + centres[labels]) @ mix).astype(np.float32), labels


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "fuser.onnx"
    path.write_bytes(b"a graph")
    return path


def test_one_in_a_hundred_ordinary_tokens_is_beyond_one_and_a_strange_one_far():
    cloud = TokenCloud.fit(*drawn(6000)).scaled(drawn(4000, 1)[0])
    unseen = cloud.distances(drawn(4000, 2)[0])
    assert 0.005 < (unseen > 1).mean() < 0.02
    tokens, _ = drawn(200, 3)
    assert (cloud.distances(tokens + 40 * np.random.default_rng(4).normal(size=16)) > 1).mean() > 0.9


def test_a_token_between_two_classes_is_novel_though_it_is_near_the_mean_of_all():
    tokens, labels = drawn(6000)
    cloud = TokenCloud.fit(tokens, labels).scaled(drawn(4000, 1)[0])
    between = np.stack([cloud.means.mean(0)])
    assert cloud.distances(between.astype(np.float32))[0] > 1.5


def test_what_is_saved_is_found_again_by_sensors(tmp_path, graph):
    cloud = TokenCloud.fit(*drawn(500)).scaled(drawn(500, 1)[0])
    ReferenceTokens({"camera+lidar": cloud}).save(tmp_path, graph)
    first = (tmp_path / FILE).read_bytes()
    found = ReferenceTokens.find(tmp_path, graph)
    tokens = list(drawn(5, 2)[0])
    assert found.distances(tokens, {LIDAR, CAMERA, SPEECH}) == pytest.approx(cloud.distances(np.stack(tokens)))
    assert found.distances(tokens, [CAMERA]) == (None,) * 5
    assert found.distances([], [CAMERA, LIDAR]) == ()
    found.save(tmp_path, graph)
    assert (tmp_path / FILE).read_bytes() == first


def test_the_sensors_that_see_name_a_cloud():
    assert sensors_key({LIDAR, CAMERA, SPEECH}) == "camera+lidar"
    assert sensors_key({CAMERA}) == sensors_key({SPEECH, CAMERA}) == "camera"


def test_no_file_is_no_statistics_and_a_wrong_one_is_named(tmp_path, graph):
    assert ReferenceTokens.find(tmp_path, graph) is None
    wrong = TokenCloud(np.zeros((2, 4), np.float32), np.eye(3, dtype=np.float32))
    ReferenceTokens({"camera": wrong}).save(tmp_path, graph)
    with pytest.raises(ModelError, match=r"novelty.npz.*of camera do not fit together"):
        ReferenceTokens.find(tmp_path, graph)
    (tmp_path / FILE).write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"novelty.npz: not a file of reference tokens"):
        ReferenceTokens.find(tmp_path, graph)
    with pytest.raises(ModelError, match="made for tokens of width 16"):
        TokenCloud.fit(*drawn(500)).distances(np.zeros((1, 3), np.float32))
    with pytest.raises(ModelError, match="too few"):
        TokenCloud.fit(*drawn(20))


@given(st.integers(0, 10**6), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_named_or_read(at, value):
    with tempfile.TemporaryDirectory() as name:
        folder, fuser = Path(name), Path(name) / "fuser.onnx"
        fuser.write_bytes(b"graph")
        ReferenceTokens({"camera": TokenCloud.fit(*drawn(500))}).save(folder, fuser)
        damaged = bytearray((folder / FILE).read_bytes())
        damaged[at % len(damaged)] = value
        (folder / FILE).write_bytes(damaged)
        with contextlib.suppress(ModelError):
            ReferenceTokens.find(folder, fuser)


def test_tokens_of_another_fusion_model_are_refused(tmp_path, graph):
    """Would fail if a model trained anew were judged by the old one's tokens."""
    ReferenceTokens({"camera": TokenCloud.fit(*drawn(500))}).save(tmp_path, graph)
    graph.write_bytes(b"another graph")
    with pytest.raises(ModelError, match=r"made for another fuser.onnx; make it again with 'fusion train novelty'"):
        ReferenceTokens.find(tmp_path, graph)
