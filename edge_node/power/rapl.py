"""RAPL, the energy counters of x86 processors (`/sys/class/powercap`), one a package. Root alone may read them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from edge_node.power.meter import Measure, Meter, read_number, read_text
from fusion.errors import UnavailableError

MOST_WATTS = 2000.0
"""No package draws more: a counter that seems to say so was set back, as after a suspend, and did not wrap."""
_DOMAIN = re.compile(r"intel-rapl:\d+")


@dataclass(slots=True)
class Package:
    """The counter of one package, in microjoules; it wraps around at `range_uj`."""

    folder: Path
    range_uj: int
    _last_uj: int | None = None

    def count(self) -> int:
        """The counter now. Raises `UnavailableError`."""
        return read_number(self.folder / "energy_uj")

    def advance(self, now_uj: int) -> int | None:
        """Microjoules since the last call; None at the first, or when the counter went back and cannot wrap."""
        last, self._last_uj = self._last_uj, now_uj
        if last is None or (now_uj < last and not self.range_uj):
            return None
        return now_uj - last if now_uj >= last else now_uj + self.range_uj - last

    def forget(self) -> None:
        """The next call of `advance` is the first."""
        self._last_uj = None


@dataclass(slots=True)
class Rapl:
    """The packages of a machine together; their sub-domains (cores, memory) are parts of them and not counted again."""

    packages: tuple[Package, ...]
    name: str = "rapl"
    covers: str = "the CPU packages"
    _last_ns: int | None = field(default=None)

    def read(self, now_ns: int) -> Measure:
        """See `Meter`. After a failure counting begins anew."""
        last_ns, self._last_ns = self._last_ns, None
        try:
            counts = [package.count() for package in self.packages]
        except UnavailableError:
            for package in self.packages:
                package.forget()
            raise
        self._last_ns = now_ns
        grown = [package.advance(count) for package, count in zip(self.packages, counts, strict=True)]
        known = [g for g in grown if g is not None]
        if last_ns is None or now_ns <= last_ns or len(known) < len(grown):
            return Measure()
        seconds = (now_ns - last_ns) / 1e9
        if max(known) / 1e6 > MOST_WATTS * seconds:
            return Measure()
        joules = sum(known) / 1e6
        return Measure(joules / seconds, joules)

    def close(self) -> None:
        """Nothing is held open."""


def find_rapl(root: Path, wanted: str = "") -> Meter | None:
    """All packages, or the one called `wanted`, such as `package-0`; None without any.

    Raises `UnavailableError` when a counter may not be read, which without root is usual.
    """
    packages, names = [], []
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        if not _DOMAIN.fullmatch(folder.name):
            continue
        name = read_text(folder / "name")
        if name.startswith("package") and wanted in {"", name}:
            limit = folder / "max_energy_range_uj"
            packages.append(Package(folder, read_number(limit) if limit.is_file() else 0))
            names.append(name)
    if not packages:
        if wanted:
            raise UnavailableError(f"rapl: no package is called {wanted!r}")
        return None
    for package in packages:
        package.count()
    return Rapl(tuple(packages), f"rapl {'+'.join(names)}")
