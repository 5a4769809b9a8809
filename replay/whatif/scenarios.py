"""Named ways to run recordings, from a TOML file: scenarios one by one, and a grid of settings, each with each.

    [scenario.thin-link]
    about = "1 KB of evidence a second"
    set = ["edge.screening.budget_bytes_per_s=1000"]
    # also: models = "FOLDER", reviewer = "mini:FOLDER", tasks = ["yard"] (only for these)

    [grid]
    "edge.screening.budget_bytes_per_s" = [0, 4000, 2000, 1000]
    "edge.screening.finest_rate" = ["full", "coarse"]

Keys are those of `replay run --set`. Wrong ones are found before anything runs, and told with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from fusion.config import Settings, load_toml
from fusion.errors import ConfigError
from fusion.task import Task
from replay.running.plan import Job, Prepared, Variant
from replay.whatif.product import MOST, named_product

BASE = "base"
"""What every other variant is compared with: nothing but what was asked for all of them."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=,-]{0,99}")
_RESERVED = frozenset({BASE, "recordings"})
_PROBE = Job("probe", "probe.mcap")


class Scenario(Settings):
    """One named way to run; see `Variant`. `tasks` are those it is for, none for all."""

    about: str = ""
    set: tuple[str, ...] = ()
    models: str = ""
    reviewer: str = ""
    tasks: tuple[str, ...] = ()


class _File(Settings):
    scenario: dict[str, Scenario] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run, with a line for people on what it is `about`."""

    variant: Variant
    about: str = ""

    @classmethod
    def of(cls, common: Variant, own: Variant, about: str = "") -> Choice:
        """`own` on top of what is `common` to all."""
        models, reviewer = own.models or common.models, own.reviewer or common.reviewer
        return cls(Variant(name=own.name, models=models, reviewer=reviewer, sets=(*common.sets, *own.sets)), about)


@dataclass(frozen=True, slots=True)
class Scenarios:
    """What one file holds. `grid` has the values of each key; `text` is the file's, to find lines in."""

    path: Path
    named: Mapping[str, Scenario]
    grid: Mapping[str, Sequence[Any]]
    text: str = field(default="", repr=False)

    @classmethod
    def load(cls, path: Path) -> Scenarios:
        """Read a file. Raises `ConfigError` naming file and line."""
        found = load_toml(path, _File)
        text = path.read_text(encoding="utf-8")
        read = cls(path, found.scenario, _flat(found.grid), text)
        for name in found.scenario:
            if not _NAME.fullmatch(name) or name in _RESERVED:
                why = "is taken" if name in _RESERVED else "is no name: letters, digits and _ . + = , - make one"
                raise ConfigError(f"{read.place(name)}: scenario {name!r} {why}; give it another")
        for key, values in read.grid.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"{read.place('', key)}: {key} = {values!r}: give a list of values")
        return read

    @classmethod
    def bundled(cls) -> Scenarios:
        """Those that come with the tool."""
        return cls.load(Path(str(resources.files("replay").joinpath("whatif", "scenarios.toml"))))

    def of_task(self, task: Task) -> dict[str, Scenario]:
        """Those for `task`."""
        return {name: one for name, one in self.named.items() if not one.tasks or task.name in one.tasks}

    def choices(self, task: Task, common: Variant, most: int = MOST) -> list[Choice]:
        """A choice each scenario for `task`, then one each point of the grid; `common` holds for all of them.

        Raises `ConfigError` naming file and line of a key that is wrong, or of a grid with more than `most` points.
        """
        found = []
        for name, one in self.of_task(task).items():
            own = Variant(name=name, models=one.models, reviewer=one.reviewer, sets=one.set)
            found.append(self._checked(task, Choice.of(common, own, one.about)))
        try:
            points = named_product(self.grid, most)
        except ConfigError as error:
            raise ConfigError(f"{self.place('')}: {error}") from None
        return found + [self._checked(task, Choice.of(common, point)) for point in points]

    def place(self, scenario: str, words: str = "") -> str:
        """`FILE:LINE` of `words` in a scenario, or in the grid where `scenario` is empty."""
        header = re.compile(rf"\s*\[\s*scenario\s*\.\s*[\"']?{re.escape(scenario)}[\"']?\s*\]")
        header = header if scenario else re.compile(r"\s*\[\s*grid\b")
        lines = list(enumerate(self.text.splitlines(), 1))
        begins = next((number for number, line in lines if header.match(line)), 1)
        rest = [number for number, line in lines[begins - 1 :] if words and words in line]
        return f"{self.path}:{rest[0] if rest else begins}"

    def _checked(self, task: Task, choice: Choice) -> Choice:
        try:
            Prepared.of(task, _PROBE, choice.variant)
        except ConfigError as error:
            name, culprit = choice.variant.name, _culprit(task, choice.variant)
            scenario = name if name in self.named else ""
            place = self.place(scenario, culprit if scenario else culprit.partition("=")[0])
            what = f"scenario {name}: {culprit}" if scenario else culprit
            raise ConfigError(f"{place}: {what}: {str(error).partition(': ')[2]}") from None
        return choice


def check_choice(task: Task, choice: Choice, where: str) -> Choice:
    """The choice, if its settings make sense. Raises `ConfigError` that begins with `where` it is from."""
    try:
        Prepared.of(task, _PROBE, choice.variant)
    except ConfigError as error:
        culprit = _culprit(task, choice.variant)
        raise ConfigError(f"{where or '--set'} {culprit}: {str(error).partition(': ')[2]}") from None
    return choice


def _culprit(task: Task, variant: Variant) -> str:
    """The first override with which those before it and it make no sense."""
    for count in range(1, len(variant.sets) + 1):
        try:
            Prepared.of(task, _PROBE, variant.model_copy(update={"sets": variant.sets[:count]}))
        except ConfigError:
            return variant.sets[count - 1]
    return ""


def picked(choices: Sequence[Choice], wanted: Sequence[str], where: str) -> list[Choice]:
    """Those `wanted` by name or pattern (`thin-*`), all where none is; in their order.

    Raises `ConfigError` for one that is none.
    """
    names = [choice.variant.name for choice in choices]
    for name in wanted:
        if not any(fnmatchcase(known, name) for known in names):
            raise ConfigError(f"--only {name}: {where} has no such variant; it has: {', '.join(names) or 'none'}")
    return [one for one in choices if not wanted or any(fnmatchcase(one.variant.name, pattern) for pattern in wanted)]


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A table in tables as one with dotted keys, for keys that were not quoted."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found
