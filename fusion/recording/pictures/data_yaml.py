"""The `data.yaml` beside pictures in YOLO's form (https://docs.ultralytics.com/datasets/detect): classes and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import RecordingError
from fusion.recording.optional import optional_module
from fusion.recording.pictures.class_names import class_name

NAME = "data.yaml"
_MAX_BYTES = 1 << 20
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class DataYaml:
    """Class names by number, as a task writes them, and what each split is said to be; empty without a file."""

    names: Mapping[int, str]
    splits: Mapping[str, str]


def read_data_yaml(root: Path) -> DataYaml:
    """What `root/data.yaml` says. Raises `RecordingError` for a file that does not say it in YOLO's way."""
    path = root / NAME
    if not path.is_file():
        return DataYaml({}, {})
    content = _load(path)
    splits = {split: content[split] for split in _SPLITS if isinstance(content.get(split), str)}
    return DataYaml(_names(path, content.get("names")), splits)


def _load(path: Path) -> dict[str, Any]:
    yaml = optional_module("ruamel.yaml", path)  # comes with rosbags
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecordingError(f"{path}: more than {_MAX_BYTES} bytes, which no list of classes is")
        content = yaml.YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise RecordingError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise RecordingError(f"{path}: no keys in it")
    return content


def _names(path: Path, names: Any) -> dict[int, str]:
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not all(type(key) is int and isinstance(found[key], str) for key in found):
        raise RecordingError(f"{path}: 'names' is neither a list of names nor names by number")
    return {number: class_name(name) for number, name in found.items()}
