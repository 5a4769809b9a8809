"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What JSON text holds. Raises `ValueError` for text that is none, and for lists in lists too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects in each other, too deep to be read") from None
