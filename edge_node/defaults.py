"""What is taken where no configuration is given: the bundled task and recording."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from edge_node.config import EdgeSettings
from fusion.config import from_overrides, load_toml


def bundled_recording(task: str) -> Path | None:
    """The recording that comes with the stack for this task, None where there is none."""
    path = Path(str(resources.files("fusion").joinpath("recordings", f"{task}.mcap")))
    return path if path.is_file() else None


def settings_or_bundled(config: Path | None, overrides: Sequence[str]) -> EdgeSettings:
    """`config`, or defaults that read the bundled recording. Raises `ConfigError`."""
    if config:
        return load_toml(config, EdgeSettings, overrides)
    path = bundled_recording("yard")
    source = [f'source.path="{path}"'] if path else []
    return from_overrides(EdgeSettings, [*source, *overrides])
