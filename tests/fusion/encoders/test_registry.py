"""Encoders are found by name."""

import pytest

from fusion.encoders.lidar import LidarEncoder
from fusion.encoders.registry import find_encoder
from fusion.errors import ConfigError


def test_built_in_encoders_are_registered() -> None:
    assert find_encoder("lidar") is LidarEncoder


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no encoder named 'radar'; installed: .*lidar"):
        find_encoder("radar")
