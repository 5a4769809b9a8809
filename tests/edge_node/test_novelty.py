"""Distance in fused-token space."""

from __future__ import annotations

import numpy as np
import pytest

from edge_node.novelty import FILE, ReferenceTokens
from fusion.errors import ModelError


def test_an_ordinary_token_is_about_one_away_and_a_strange_one_far(tmp_path):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(16, 16))
    tokens = rng.normal(size=(5000, 16)) @ mix + 3
    np.savez(tmp_path / FILE, mean=tokens.mean(0), precision=np.linalg.inv(np.cov(tokens.T)))
    found = ReferenceTokens.find(tmp_path)
    distances = [found.distance(token.astype(np.float32)) for token in tokens[:200]]
    assert 0.9 < np.median(distances) < 1.1
    assert found.distance((tokens.mean(0) + 10 * mix[0]).astype(np.float32)) > 2


def test_no_file_is_no_statistics_and_a_wrong_one_is_named(tmp_path):
    assert ReferenceTokens.find(tmp_path) is None
    np.savez(tmp_path / FILE, mean=np.zeros(4), precision=np.eye(3))
    with pytest.raises(ModelError, match=r"novelty.npz.*do not fit together"):
        ReferenceTokens.find(tmp_path)
    (tmp_path / FILE).write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"novelty.npz: not a file of reference tokens"):
        ReferenceTokens.find(tmp_path)
    with pytest.raises(ModelError, match="tokens of width 2"):
        ReferenceTokens(np.zeros(2, np.float32), np.eye(2, dtype=np.float32)).distance(np.zeros(3, np.float32))
