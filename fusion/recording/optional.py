"""Libraries that only some recordings need, imported when one of those is opened."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from fusion.errors import RecordingError


def optional_module(name: str, path: Path) -> Any:
    """The module `name`, which reading `path` needs; raises `RecordingError` saying what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = error.name or name
        raise RecordingError(
            f"{path}: reading it needs {what}, which is missing; install fusion-stack[formats]"
        ) from None
