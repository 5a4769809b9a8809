"""Exporters by name, and writing with several of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from fusion.errors import ConfigError
from replay.export.base import Exported, Exporter, Openers, UnsuitedError
from replay.results.records import RunResults

GROUP = "fusion.exporters"
"""Entry points of this group name functions that fulfil `Exporter`."""
SCENE = "rerun"
"""What is written of every run, unless it is told not to."""


def exporter(name: str) -> Exporter:
    """The exporter called `name`. Raises `ConfigError` for a name that is none, or one that cannot be used here."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(
            f"no export is called {name!r}; use {', '.join(sorted(found)) or 'none: nothing is installed'}"
        )
    try:
        made: Exporter = found[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"export {name!r} cannot be used here ({error}); install fusion-stack[replay]") from None
    return made


def export(names: Sequence[str], results: RunResults, opened: Openers, out: Path) -> Iterator[str]:
    """Write the run under `out` by each of `names`, telling a line a file and a line a remark.

    What makes no sense for the run is an `UnsuitedError` where it is all that was asked for, else a line that says so.
    """
    exporters = {name: exporter(name) for name in names}
    for name, write in exporters.items():
        try:
            done = write(results, opened, out)
        except UnsuitedError as error:
            if len(exporters) == 1:
                raise
            yield f"left out {name}: {error}"
        else:
            yield from _told(name, done)


def _told(name: str, done: Exported) -> Iterator[str]:
    yield from (f"wrote {path}" for path in done.files)
    yield from (f"{name}: {note}" for note in done.notes)
