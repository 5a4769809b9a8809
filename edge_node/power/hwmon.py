"""Any other power sensor of the kernel's hwmon class: `power*_average` or `power*_input`, in microwatts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_node.power.meter import Measure, Meter, read_number, read_text
from fusion.errors import UnavailableError

MACHINE = "power_meter"
"""The chip name of an ACPI power meter, which measures the whole machine."""
_PARTS = (
    "amdgpu",
    "radeon",
    "nouveau",
    "i915",
    "xe",
    "fam15h_power",
    "zenpower",
    "amd_energy",
    "nvme",
    "iwlwifi",
    "BAT",
)
"""Beginnings of names of chips that measure only a part of the machine, or its battery: taken only when named."""


@dataclass(frozen=True, slots=True)
class HwmonPower:
    """One such file."""

    name: str
    covers: str
    path: Path

    def read(self, now_ns: int) -> Measure:
        """See `Meter`."""
        del now_ns
        return Measure(read_number(self.path) / 1e6)

    def close(self) -> None:
        """Nothing is held open."""


def find_hwmon(root: Path, wanted: str = "") -> Meter | None:
    """The one sensor that is there, an ACPI power meter before others, or the one called `wanted`; None without any.

    A sensor is called by its chip, or as `CHIP/LABEL`, `CHIP/power1` where it has no label. Raises `UnavailableError`
    when it is not there, or when there are several and none was named.
    """
    sensors = _sensors(root)
    if wanted:
        chosen = [s for s in sensors if wanted in {_called(s), _chip(s)}]
        missing = f"no sensor is called {wanted!r}"
    else:
        whole = [s for s in sensors if not _chip(s).startswith(_PARTS)]
        chosen = [s for s in whole if _chip(s) == MACHINE] or whole
        missing = "no sensor of them measures the whole machine"
    if not sensors and not wanted:
        return None
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(_called(s) for s in chosen or sensors) or "none"
    problem = f"{len(chosen)} sensors to choose from" if chosen else missing
    raise UnavailableError(f"hwmon: {problem}; there are {names}: name one, power.source = 'hwmon:NAME'")


def _sensors(root: Path) -> list[HwmonPower]:
    found = []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        channels = sorted({path.name.partition("_")[0] for path in folder.glob("power[0-9]*_*")})
        for channel in channels:
            paths = [folder / f"{channel}_{kind}" for kind in ("average", "input")]
            if path := next((path for path in paths if path.is_file()), None):
                found.append(_sensor(folder, channel, path))
    return found


def _sensor(folder: Path, channel: str, path: Path) -> HwmonPower:
    chip = read_text(folder / "name") if (folder / "name").is_file() else folder.name
    label = folder / f"{channel}_label"
    called = f"{chip}/{read_text(label) if label.is_file() else channel}"
    return HwmonPower(f"hwmon {called}", "the machine" if chip == MACHINE else f"what {chip} measures", path)


def _called(sensor: HwmonPower) -> str:
    return sensor.name.removeprefix("hwmon ")


def _chip(sensor: HwmonPower) -> str:
    return _called(sensor).partition("/")[0]
