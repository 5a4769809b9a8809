"""Encoders are found by name."""

import pytest

from fusion.encoders.backbone import BackboneEncoder
from fusion.encoders.conformer import ConformerEncoder
from fusion.encoders.lidar import LidarEncoder
from fusion.encoders.pretrained import PretrainedSpeechEncoder
from fusion.encoders.registry import find_encoder
from fusion.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("lidar", LidarEncoder),
        ("backbone", BackboneEncoder),
        ("speech-conformer", ConformerEncoder),
        ("speech-pretrained", PretrainedSpeechEncoder),
    ],
)
def test_built_in_encoders_are_registered(name: str, encoder: type) -> None:
    assert find_encoder(name) is encoder


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no encoder named 'radar'; installed: .*lidar"):
        find_encoder("radar")
