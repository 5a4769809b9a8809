"""A grid of settings: every value of each key with every value of the others, each point with a name of its own."""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusion.config import toml_string
from fusion.errors import ConfigError
from replay.running.plan import Variant

MOST = 64
"""Points of a grid, where nobody allows more."""
_OWN_KEYS = ("models", "reviewer")
_LONGEST = 90
_BARE = re.compile(r"[\w.:/+@-]+")


def named_product(grid: Mapping[str, Sequence[Any]], most: int = MOST) -> list[Variant]:
    """Every point of `grid` with a name, the last key's values changing fastest. Raises `ConfigError` for too many."""
    if not grid:
        return []
    count = math.prod(len(values) for values in grid.values())
    if count > most:
        sizes = " x ".join(str(len(values)) for values in grid.values())
        told = f"the grid has {sizes} = {count} points, more than {most}"
        raise ConfigError(f"{told}; leave values out, or allow them with --most {count}")
    short = _short_names(list(grid))
    points: dict[str, Variant] = {}
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        name = _file_name(",".join(f"{short[key]}={toml(value)}" for key, value in point.items()))
        free = next(free for free in _numbered(name) if free not in points)
        points[free] = _variant(free, point)
    return list(points.values())


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def read_axis(text: str) -> tuple[str, list[Any]]:
    """`KEY=V1,V2` as a key with its values, in TOML or as bare words. Raises `ConfigError`."""
    key, equals, values = text.partition("=")
    given = [value.strip() for value in values.split(",")]
    if not equals or not key.strip() or not all(given):
        raise ConfigError(f"--vary {text}: not of the form KEY=VALUE,VALUE")
    return key.strip(), [_value(value) for value in given]


def toml(value: Any) -> str:
    """A value as `--set` takes it: words bare where they cannot be taken for anything else."""
    bare = isinstance(value, str) and _BARE.fullmatch(value) and _value(value) == value
    return value if bare else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml_string(key)} = {_toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, str):
        return toml_string(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _variant(name: str, point: Mapping[str, Any]) -> Variant:
    own = {key: str(point[key]) for key in _OWN_KEYS if key in point}
    sets = tuple(f"{key}={toml(value)}" for key, value in point.items() if key not in _OWN_KEYS)
    return Variant(name=name, sets=sets, **own)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The fewest last words of each key that tell it from the others."""
    found = {}
    for key in keys:
        words = key.split(".")
        for count in range(1, len(words) + 1):
            short = ".".join(words[-count:])
            if sum(other == short or other.endswith(f".{short}") for other in keys) == 1:
                break
        found[key] = short
    return found


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+=,-]+", "-", text).strip("-.")[:_LONGEST]
