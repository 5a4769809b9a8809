"""The recordings that paths, patterns and URLs name, each once."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from fusion.errors import InputError, RecordingError
from fusion.recording.base import find_reader
from fusion.recording.content import content_of
from replay.sources.names import check_text, is_text, legible
from replay.sources.remote import describe, find_remote, is_url

Tell: TypeAlias = Callable[[str], None]
"""Is told, in a line, what is passed over."""


def find_recordings(sources: Sequence[str], tell: Tell) -> list[str]:
    """The recordings of all sources, in the order given and sorted within each; the same one or content only once.

    A path may be a recording or a folder of recordings, a pattern any of them; `**` stands for folders in folders.
    Raises `InputError` for a source that has none, or whose name is not UTF-8; a recording of such a name in a folder
    is passed over.
    """
    found: dict[str, str] = {}
    for source in sources:
        for one in _legible(source, tell):
            where = one if is_url(one) else os.path.realpath(one)
            if where in found:
                tell(f"{one}: is {found[where]}, which is in the run already; run once")
            else:
                found[where] = one
    return _without_copies(list(found.values()), tell)


def _legible(source: str, tell: Tell) -> list[str]:
    """Those found whose names can be written down."""
    check_text(source)
    found = _found(source, tell)
    passed = [one for one in found if not is_text(one)]
    if passed and len(passed) == len(found):
        raise InputError(f"{legible(passed[0])}: its name is not UTF-8; rename it; no other recording in {source}")
    for one in passed:
        tell(f"{legible(one)}: its name is not UTF-8; passed over; rename it")
    return [one for one in found if one not in passed]


def _found(source: str, tell: Tell) -> list[str]:
    source = source.removeprefix("file://") if "::" not in source else source
    if is_url(source):
        recordings, others = find_remote(source)
        if others:
            tell(f"{source}: {others} files that are no recordings passed over")
        return recordings
    path = Path(source)
    if path.exists():
        return [source] if path.is_file() else list(_in_folder(path, tell))
    if glob.has_magic(source):
        return list(_of_pattern(source, tell))
    raise InputError(f"{source}: no such file or folder; give the path of a recording")


def _of_pattern(pattern: str, tell: Tell) -> Iterator[str]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 `Path.glob` takes no absolute pattern
    if not matches:
        raise InputError(f"{pattern}: nothing fits this pattern")
    passed: list[str] = []
    taken: list[str] = []
    found = 0
    for match in matches:
        if match.startswith(tuple(f"{folder.rstrip('/')}/" for folder in taken)):
            continue
        if _is_recording(Path(match)):
            taken += [match] if Path(match).is_dir() else []
            found += 1
            yield match
        elif Path(match).is_dir():
            below = [] if "**" in pattern else list(_below(Path(match), passed, {os.path.realpath(match)}))
            found += len(below)
            yield from below
        else:
            passed.append(match)
    if not found:
        raise InputError(f"{pattern}: no recording fits this pattern; {_how_many(len(passed))} looked at")
    _tell_passed(pattern, passed, tell)


def _in_folder(folder: Path, tell: Tell) -> Iterator[str]:
    """A folder that is a recording, or all recordings in and below one that is none. Raises `InputError` for none."""
    if _is_recording(folder):
        yield str(folder)
        return
    passed: list[str] = []
    found = list(_below(folder, passed, {os.path.realpath(folder)}))
    if not found:
        raise InputError(f"{folder}: no recording, and none in it; {_how_many(len(passed))} looked at")
    _tell_passed(str(folder), passed, tell)
    yield from found


def _below(folder: Path, passed: list[str], seen: set[str]) -> Iterator[str]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_recording(entry):
            yield str(entry)
        elif not entry.is_dir():
            passed.append(str(entry))
        elif (real := os.path.realpath(entry)) not in seen:
            seen.add(real)
            yield from _below(entry, passed, seen)


def _is_recording(path: Path) -> bool:
    try:
        find_reader(path)
    except RecordingError:
        return False
    return True


def _tell_passed(where: str, passed: Sequence[str], tell: Tell) -> None:
    if passed:
        tell(f"{where}: {_how_many(len(passed))} that are no recordings passed over, the first is {passed[0]}")


def _how_many(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _without_copies(sources: list[str], tell: Tell) -> list[str]:
    """All but those whose content is that of one before; only those of equal sizes are read for it."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for source in sources:
        groups.setdefault(_weight(source) if len(sources) > 1 else (), []).append(source)
    copies: dict[str, str] = {}
    for group in groups.values():
        first: dict[str, str] = {}
        for source in group if len(group) > 1 else ():
            content = _content(source)
            if content in first:
                copies[source] = first[content]
            first.setdefault(content, source)
    for source, original in copies.items():
        tell(f"{source}: holds the same as {original}; run once")
    return [source for source in sources if source not in copies]


def _weight(source: str) -> tuple[object, ...]:
    if is_url(source):
        remote = describe(source)
        digests = tuple(file.digest for file in remote.files)
        return ("remote", remote.size, *digests) if remote.size and all(digests) else (source,)
    files = _files(source)
    return ("local", len(files), sum(path.stat().st_size for path in files))


def _content(source: str) -> str:
    if is_url(source):
        return "\n".join(f"{file.size} {file.digest}" for file in describe(source).files)
    return content_of(Path(source), _files(source))[0]


def _files(source: str) -> list[Path]:
    path = Path(source)
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
