"""Configuration: TOML files and `--set key=value` become validated, frozen models.

A wrong key or value is a `ConfigError` that names the file and the line, or the `--set` that brought it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fusion.errors import ConfigError


class Settings(BaseModel):
    """Base of every configuration model: frozen, unknown keys are errors, and so are `inf` and `nan`.

    A number that may be infinite says `allow_inf_nan` itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


LONGEST_S = 1e9
"""Thirty years: longer than anything lasts, and few enough nanoseconds to count with."""
Seconds = Annotated[float, Field(ge=0, le=LONGEST_S)]
SomeSeconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
"""Not none at all."""


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or re.search(r"\s", value) or not re.fullmatch("[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError(f"give HOST:PORT, the port from 0 to {MAX_PORT}")
    return value


MAX_PORT = 65_535
HostPort = Annotated[str, AfterValidator(_host_and_port)]
"""An address, HOST:PORT."""
HostPortOrNone = Annotated[str, AfterValidator(lambda value: _host_and_port(value) if value else value)]
"""An address, or empty for none."""

NOT_SHOWN = "not_shown"
"""The type of a validation error (`PydanticCustomError`) about a value that must not be shown."""

S = TypeVar("S", bound=Settings)
_TABLE = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"^\s*([\w.\-\"']+)\s*=")


def load_toml(path: Path, model: type[S], overrides: Sequence[str] = ()) -> S:
    """Read `path`, apply `--set` overrides (`a.b=value`, value in TOML or a bare word), validate as `model`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a TOML file") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return _validate(data, model, overrides, path=path, text=text)


def from_overrides(model: type[S], overrides: Sequence[str] = ()) -> S:
    """`model` with its defaults and the given `--set` overrides."""
    return _validate({}, model, overrides, path=None, text="")


def toml_string(text: str) -> str:
    """`text` in quotes, as TOML has strings: nothing in it is taken for a number, a date, or an end."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _validate(data: dict[str, Any], model: type[S], overrides: Sequence[str], *, path: Path | None, text: str) -> S:
    for override in overrides:
        _apply(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        raise ConfigError(f"{_place(keys, overrides, path, text)}: {_explain(first, keys, model)}") from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: not of the form key=value")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    for part in parts[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a table")
    data[parts[-1]] = value


def _explain(error: Any, keys: list[str], model: type[BaseModel]) -> str:
    name = ".".join(keys) or "the file"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, keys[:-1])
        hint = f"; known keys: {', '.join(known)}" if known else ""
        return f"unknown key '{name}'{hint}"
    if error["type"] == "missing":
        return f"key '{name}' is missing"
    given = "" if error["type"] == NOT_SHOWN else f" = {error.get('input')!r}"
    return f"'{name}'{given}: {error['msg'].removeprefix('Value error, ')}"


def _fields_at(model: type[BaseModel], keys: list[str]) -> list[str]:
    for key in keys:
        field = model.model_fields.get(key)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return sorted(model.model_fields)


def _place(keys: list[str], overrides: Sequence[str], path: Path | None, text: str) -> str:
    dotted = ".".join(keys)
    for override in overrides:
        if override.partition("=")[0].strip() == dotted:
            return f"--set {override}"
    if path is None:
        return "settings"
    line = _line_of(keys, text)
    return f"{path}:{line}" if line else str(path)


def _line_of(keys: list[str], text: str) -> int:
    """The line where a key stands, or its nearest table; list indices are skipped. 0 when nowhere."""
    wanted = [key for key in keys if not key.isdecimal()]
    best, best_depth, table = 0, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = [part.strip("\"' ") for part in header[1].split(".")]
            here = table
        elif key := _KEY.match(line):
            here = table + [part.strip("\"'") for part in key[1].split(".")]
        else:
            continue
        depth = len(here)
        if here == wanted[:depth] and depth > best_depth:
            best, best_depth = number, depth
    return best
