"""Writes `fusion/weights/<task>/`: what both nodes load, with its model card and digests."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from fusion.task import Task

GRAPH_NAME = "detector.onnx"
"""A bundle's detector."""


def bundle_folder(task: Task, weights: Path | None) -> Path:
    """Where a task's bundle lies: `weights`, or the package's own."""
    return weights or Path(str(resources.files("fusion").joinpath("weights", task.name)))


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder beside the bundle `folder`, with its card, for what is new in it: files, and whole folders.

    At the end they take the place of those of the same names, digests last. When anything goes wrong before that the
    bundle stays as it is, or is not there.
    """
    folder = folder.resolve()
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for card in ("card.json", "card.md"):
            if (folder / card).is_file():
                shutil.copyfile(folder / card, part / card)
        yield part
        folder.mkdir(exist_ok=True)
        for made in sorted(part.iterdir()):
            if made.is_dir() and (folder / made.name).exists():
                (folder / made.name).replace(part / f"{made.name}.old")
            made.replace(folder / made.name)
        write_digests(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def card_section(folder: Path, name: str) -> dict[str, Any]:
    """A section of the card of the bundle `folder`; empty without one."""
    card = folder / "card.json"
    section: dict[str, Any] = json.loads(card.read_text(encoding="utf-8")).get(name, {}) if card.is_file() else {}
    return section


def write_card(folder: Path, title: str, facts: dict[str, object]) -> None:
    """`card.md`: what a model was made of and what it measured, for people; `card.json`, the same for programs."""
    lines = [f"# {title}", ""]
    for section, content in facts.items():
        lines += [f"## {section}", ""]
        if isinstance(content, dict):
            lines += ["| what | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in content.items())]
        else:
            lines.append(str(content))
        lines.append("")
    (folder / "card.md").write_text("\n".join(lines), encoding="utf-8")
    (folder / "card.json").write_text(json.dumps({"title": title, **facts}, indent=1) + "\n", encoding="utf-8")


def add_to_card(folder: Path, facts: dict[str, object]) -> None:
    """Add sections to a bundle's card, replacing those of the same name."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    title = card.pop("title")
    write_card(folder, title, card | facts)


def made_elsewhere(folder: Path) -> str:
    """The commands that made a bundle's detector, when they are not the task's own recipe; else empty."""
    card = folder / "card.json"
    if not card.is_file():
        return ""
    recipe = json.loads(card.read_text(encoding="utf-8")).get("Recipe", {})
    return str(recipe.get("made by", ""))


def write_digests(folder: Path) -> None:
    """`SHA256SUMS` over every file of the bundle, in `sha256sum`'s form."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}" for p in files]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
