"""Short names of recordings, told apart by what differs in where they are."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from fusion.errors import InputError

LONGEST = 80
"""A name's characters; it becomes a folder's."""


def job_names(sources: Sequence[str]) -> dict[str, str]:
    """A name for each source: its own, with as many of the folders that differ before it as make it the only one.

    It hangs on which sources there are, not on their order. Names are made of letters, digits, `.`, `_` and `-`.
    """
    groups: dict[str, dict[str, tuple[str, ...]]] = {}
    for source in sources:
        parts = _parts(source)
        groups.setdefault(_clean(_stem(parts[-1], source)).lower(), {})[source] = parts
    found = {source: name for group in groups.values() for source, name in _told_apart(group).items()}
    taken = [name.lower() for name in found.values()]
    return {s: name if taken.count(name.lower()) == 1 else f"{name}-{_digest(s)}" for s, name in found.items()}


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8, so that it can be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def legible(name: str) -> str:
    """A name to be shown, with bytes that are none of UTF-8 as hexadecimal numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_text(source: str) -> None:
    """Raise `InputError` for a name that is not UTF-8."""
    if not is_text(source):
        raise InputError(f"{legible(source)}: its name is not UTF-8; rename it")


def _told_apart(group: dict[str, tuple[str, ...]]) -> dict[str, str]:
    if len(group) == 1:
        return {source: _fitted(_clean(_stem(parts[-1], source)), source) for source, parts in group.items()}
    longest = max(map(len, group.values()))
    padded = {source: ("",) * (longest - len(parts)) + parts for source, parts in group.items()}
    columns = [at for at in range(longest - 1) if len({parts[at] for parts in padded.values()}) > 1]
    same_file = len({parts[-1] for parts in padded.values()}) == 1
    ends = {source: _stem(parts[-1], source) if same_file else parts[-1] for source, parts in group.items()}
    for count in range(len(columns) + 1):
        chosen = columns[len(columns) - count :]
        names = {
            source: _clean("-".join([*filter(None, (padded[source][at] for at in chosen)), ends[source]]))
            for source in group
        }
        if len({name.lower() for name in names.values()}) == len(names):
            return {source: _fitted(name, source) for source, name in names.items()}
    return {source: f"{_clean(ends[source])[:LONGEST]}-{_digest(source)}" for source in group}


def _parts(source: str) -> tuple[str, ...]:
    if "://" in source or "::" in source:
        return tuple(
            part for link in reversed(source.split("::")) for part in link.replace("://", "/").split("/") if part
        )
    path = Path(source).absolute()
    return tuple(part for part in path.resolve().parts if part != path.anchor) or (path.anchor,)


def _stem(name: str, source: str) -> str:
    if "://" not in source and "::" not in source and Path(source).is_dir():
        return name
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix.isalnum() else name


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "recording"


def _fitted(name: str, source: str) -> str:
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{_digest(source)}"


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:6]
