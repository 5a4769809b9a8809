"""ROS 2 bags: a folder of `metadata.yaml` and the SQLite or MCAP files it names (design: rosbag2's repository)."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from fusion.errors import RecordingError
from fusion.recording.native.stream import RawMessage, Wanted
from fusion.recording.optional import optional_module
from fusion.recording.ros.mcap_bag import McapRosSource
from fusion.recording.ros.ros2_packed import naming, unpack_file
from fusion.recording.ros.ros2_sqlite import SqliteSource
from fusion.recording.ros.source import RosChannel, RosSource

METADATA = "metadata.yaml"
_KEY = "rosbag2_bagfile_information"
_STORAGES: Mapping[str, Callable[..., RosSource]] = {".db3": SqliteSource, ".mcap": McapRosSource}
_MAX_METADATA_BYTES = 1 << 20
_LAST_CURSOR = (1 << 63) - 1


def is_ros2_bag(path: Path) -> bool:
    """A folder with rosbag2's metadata, or with SQLite files of a bag; or such a file alone."""
    if path.is_file():
        return path.suffix == ".db3"
    if any(path.glob("*.db3")) or any(path.glob("*.db3.zstd")):
        return True
    try:
        with (path / METADATA).open("rb") as file:
            return _KEY.encode() in file.read(1 << 16)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of the bag: `base` is added to its cursors, `numbers` gives its channels the bag's numbers.

    `source` reads `file`, or what it was unpacked to. Messages numbered above `span` are not read.
    """

    file: Path
    source: RosSource
    base: int
    span: int
    numbers: Mapping[int, int]
    damage: str


class Ros2Bag:
    """A ROS 2 bag as a `RosSource`: its files one after the other.

    Files compressed with zstd are unpacked, into a temporary folder that goes with the object; messages are so where
    they are decoded.
    """

    format = "rosbag2"

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path = path
        self._temporary: TemporaryDirectory[str] | None = None
        notes: dict[str, str] = {}
        if path.is_file():
            self.files: Sequence[Path] = (path,)
            declared = None
        else:
            metadata = _metadata(path)
            declared = metadata.get("message_count")
            self.files = _files(path, metadata)
            if not metadata:
                notes["metadata.yaml"] = "is missing: the files are read in the order of their numbers"
        if not self.files:
            raise RecordingError(f"{path}: neither {METADATA} nor a file of a ROS 2 bag in it")
        self._numbers: dict[RosChannel, int] = {}
        self._parts = self._opened(salvage)
        self.damage = "; ".join(part.damage for part in self._parts if part.damage)
        self.channels = {number: channel for channel, number in self._numbers.items()}
        self.present = frozenset(part.numbers[n] for part in self._parts for n in part.source.present)
        self.count = sum(part.source.count for part in self._parts)
        self.span = self._parts[-1].base + self._parts[-1].span
        if declared is not None and declared != self.count:
            notes["messages"] = f"{METADATA} tells {declared}, the files hold {self.count}"
        self.notes: Mapping[str, str] = notes

    def messages(self, wanted: Wanted) -> Iterator[RawMessage]:
        """The wanted messages; files before the cursor are not opened at all."""
        for part in self._parts:
            if part.base + part.span <= wanted.after:
                continue
            channels = frozenset(
                own for own, number in part.numbers.items() if wanted.channels is None or number in wanted.channels
            )
            with naming(part.file, part.source.path):
                for message in part.source.messages(Wanted(max(0, wanted.after - part.base), channels)):
                    if message.cursor > part.span:
                        break
                    yield replace(
                        message,
                        cursor=part.base + message.cursor,
                        channel=part.numbers[message.channel],
                    )

    def place(self, message: RawMessage) -> str:
        """The message's number, and where in which file it is."""
        part = next(part for part in self._parts if message.cursor <= part.base + part.span)
        return f"message {message.cursor} ({part.source.place(message)})"

    def _opened(self, salvage: bool) -> list[_Part]:
        parts: list[_Part] = []
        base, most = 0, _LAST_CURSOR // len(self.files)
        for file in self.files:
            plain, cut = self._unpacked(file, salvage) if file.suffix == ".zstd" else (file, "")
            if plain.suffix not in _STORAGES:
                known = ", ".join(_STORAGES)
                raise RecordingError(f"{file}: a ROS 2 bag stored in this kind of file; known: {known}")
            with naming(file, plain):
                source = _STORAGES[plain.suffix](plain, salvage=salvage)
            numbers = {
                own: self._numbers.setdefault(channel, len(self._numbers)) for own, channel in source.channels.items()
            }
            damage = "; ".join(filter(None, (cut, source.damage.replace(str(plain), str(file)))))
            if source.span > most:
                beyond = f"{file}: row {source.span} of the messages; of a bag of {len(self.files)} files"
                if not salvage:
                    raise RecordingError(f"{beyond} those up to {most} can be read, others with salvage left out")
                damage = "; ".join(filter(None, (damage, f"{beyond} rows above {most} are left out")))
            parts.append(_Part(file, source, base, min(source.span, most), numbers, damage))
            base += parts[-1].span
        return parts

    def _unpacked(self, file: Path, salvage: bool) -> tuple[Path, str]:
        """What a file was unpacked to, and what is wrong with it."""
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="fusion-bag-")
            weakref.finalize(self, self._temporary.cleanup)
        out = Path(self._temporary.name) / file.stem
        return out, unpack_file(file, out, salvage=salvage)


def _metadata(folder: Path) -> Mapping[str, Any]:
    """What `metadata.yaml` says of the bag; nothing when there is no such file. Raises `RecordingError`."""
    path = folder / METADATA
    if not path.is_file():
        return {}
    yaml = optional_module("ruamel.yaml", path)  # comes with rosbags
    try:
        if path.stat().st_size > _MAX_METADATA_BYTES:
            raise RecordingError(f"{path}: more than {_MAX_METADATA_BYTES} bytes, which no bag's metadata is")
        content = yaml.YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RecordingError(f"{path}: cannot be read ({reason})") from None
    about = content.get(_KEY) if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise RecordingError(f"{path}: there is no '{_KEY}' in it")
    return about


def _files(folder: Path, metadata: Mapping[str, Any]) -> list[Path]:
    """The bag's files in order. Raises `RecordingError` naming one that is missing."""
    if not metadata:
        found = [*folder.glob("*.db3"), *folder.glob("*.db3.zstd")]
        return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)] or [0])
    names = metadata.get("relative_file_paths")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RecordingError(f"{folder / METADATA}: 'relative_file_paths' names no files")
    # Old bags name their files with folders in front that need not exist any more.
    files = [folder / PurePosixPath(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise RecordingError(f"{folder / METADATA}: it names {file.name}, which is not in the folder")
    return files
