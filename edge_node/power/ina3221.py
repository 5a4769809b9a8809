"""The INA3221 of a Jetson: voltage and current of three rails a chip, one of which is the board's input.

Two layouts: the mainline driver's hwmon folder (JetPack 5 and later; `in1_label`, millivolts and milliamperes), and the
older driver's iio folder (JetPack 4; `rail_name_0`, milliwatts). Boards without an input rail (the AGX ones) have
several of which some may lie behind others: they are not added up, there a rail must be named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_node.power.meter import Measure, Meter, read_number, read_text
from fusion.errors import UnavailableError

TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""What the rail is called that everything else is behind, by board."""
INPUT = "the board's input"


@dataclass(frozen=True, slots=True)
class HwmonRail:
    """A rail of the hwmon layout: `in` files are millivolts, `curr` files milliamperes."""

    name: str
    covers: str
    folder: Path
    channel: int

    def read(self, now_ns: int) -> Measure:
        """See `Meter`."""
        del now_ns
        millivolts = read_number(self.folder / f"in{self.channel}_input")
        return Measure(millivolts * read_number(self.folder / f"curr{self.channel}_input") / 1e6)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True)
class IioRail:
    """A rail of the iio layout: the power file is milliwatts."""

    name: str
    covers: str
    folder: Path
    channel: int

    def read(self, now_ns: int) -> Measure:
        """See `Meter`."""
        del now_ns
        return Measure(read_number(self.folder / f"in_power{self.channel}_input") / 1e3)

    def close(self) -> None:
        """Nothing is held open."""


def find_ina3221(root: Path, rail: str = "") -> Meter | None:
    """The input rail, or the one called `rail`; None without such a chip.

    Raises `UnavailableError` when the chip is there and has no such rail.
    """
    rails = _rails(root)
    wanted = [rail] if rail else list(TOTAL_RAILS)
    for name in wanted:
        if name in rails:
            return rails[name]
    if not rails:
        return None
    missing = f"no rail is called {rail!r}" if rail else "no rail of it is the board's input"
    raise UnavailableError(f"ina3221: {missing}; there are {', '.join(sorted(rails))}")


def _rails(root: Path) -> dict[str, Meter]:
    """Both layouts' rails by name; unnamed and unconnected (`NC`) channels are left out."""
    found: dict[str, Meter] = {}
    for label in sorted(root.glob("sys/class/hwmon/hwmon*/in*_label")):
        folder, channel = label.parent, int(label.name.removeprefix("in").removesuffix("_label"))
        if _is_ina3221(folder) and (folder / f"curr{channel}_input").exists():
            name = read_text(label)
            found.setdefault(name, HwmonRail(f"ina3221 {name}", _covers(name), folder, channel))
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/iio:device*/rail_name_*")):
        name, channel = read_text(label), int(label.name.removeprefix("rail_name_"))
        found.setdefault(name, IioRail(f"ina3221 {name}", _covers(name), label.parent, channel))
    return {name: meter for name, meter in found.items() if name not in {"", "NC"}}


def _is_ina3221(folder: Path) -> bool:
    return (folder / "name").is_file() and read_text(folder / "name") == "ina3221"


def _covers(rail: str) -> str:
    return INPUT if rail in TOTAL_RAILS else f"the rail {rail}"
