"""The page about power shows a configuration that is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from edge_node.config import EdgeSettings

PAGE = Path(__file__).parents[3] / "docs" / "power.md"


def test_the_example_is_a_configuration():
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    power = EdgeSettings.model_validate(tomllib.loads(text)).power
    assert power.governed
    assert [gear.rate_hz for gear in power.gears] == [0.0, 5.0, 2.0]
