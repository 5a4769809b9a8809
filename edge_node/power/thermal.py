"""Temperatures of the kernel's thermal zones (`/sys/class/thermal`), in degrees Celsius."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edge_node.power.meter import read_number, read_text
from fusion.errors import UnavailableError

COLDEST_C, HOTTEST_C = -60.0, 200.0
"""Outside of these it is no temperature: Jetsons tell -256 of a part that is switched off."""
_CONSTANT = frozenset({"PMIC-Die"})
"""Zones that tell 100 degrees whatever happens."""


@dataclass(frozen=True, slots=True)
class Thermals:
    """The zones found, by name."""

    zones: dict[str, Path]

    def read(self) -> dict[str, float]:
        """Degrees Celsius of the zones that can be read now; the others are left out."""
        found = {}
        for name, path in self.zones.items():
            try:
                celsius = read_number(path) / 1e3
            except UnavailableError:
                continue
            if COLDEST_C < celsius < HOTTEST_C:
                found[name] = celsius
        return found


def find_thermals(root: Path) -> Thermals:
    """Every zone by its type; those that share one have their number behind it."""
    folders = sorted(root.glob("sys/class/thermal/thermal_zone*"), key=lambda path: (len(path.name), path.name))
    kinds = {}
    for folder in folders:
        try:
            kinds[folder] = read_text(folder / "type")
        except UnavailableError:
            continue
    shared = Counter(kinds.values())
    names = {
        f: kind if shared[kind] == 1 else f"{kind}-{f.name.removeprefix('thermal_zone')}" for f, kind in kinds.items()
    }
    return Thermals({names[f]: f / "temp" for f, kind in kinds.items() if kind not in _CONSTANT})
