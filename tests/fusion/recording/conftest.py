"""Recordings the tests of this room share."""

import pytest

from fusion.recording.synthetic import write_synthetic


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A recording of a few chunks (noise compresses badly), with every sensor and truth: 12 moments. Read only."""
    path = tmp_path_factory.mktemp("recordings") / "small.mcap"
    write_synthetic(path, frames=12, width=96, height=64, points=16_000)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A recording of one chunk, small enough to damage at every byte: 2 moments. Read only."""
    path = tmp_path_factory.mktemp("recordings") / "tiny.mcap"
    write_synthetic(path, frames=2, width=32, height=32, points=32)
    return path
