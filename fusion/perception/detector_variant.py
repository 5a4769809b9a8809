"""What a detector that was exported in fewer bits asks of an engine."""

from __future__ import annotations

from pathlib import Path

from fusion.engines import Precision
from fusion.errors import ModelError
from fusion.json_text import parse_json

VARIANT_NAME = "detector-variant.json"
"""Beside a detector in fewer bits: what it is, and what was measured."""


def detector_precision(folder: Path, wanted: str = Precision.AUTO) -> str:
    """What an engine computes the detector of the bundle `folder` in: what is `wanted`, or, where that is left to the
    engine, float32 for one in int8.

    In int8 is only what the graph says; the rest was measured in float32, and an engine that takes bfloat16 by itself
    would decode boxes and round the codec's symbols in it. Raises `ModelError` for a file that cannot be read.
    """
    path = folder / VARIANT_NAME
    if wanted != Precision.AUTO or not path.is_file():
        return wanted
    try:
        in_int8 = parse_json(path.read_text(encoding="utf-8"))["precision"] == "int8"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({error!r}); export the variant again") from None
    return Precision.F32.value if in_int8 else wanted
