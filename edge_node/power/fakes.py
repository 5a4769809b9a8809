"""Boards made of files, below a folder that stands for `/`, and a meter that draws what it is told: for tests.

The trees have those files of the real boards that matter here, with made-up values of their order of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_node.power.meter import Measure
from fusion.errors import UnavailableError

ORIN = Path("sys/class/hwmon/hwmon3")
XAVIER = Path("sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0")
RAPL = Path("sys/class/powercap")
RAPL_RANGE_UJ = 262_143_328_850


@dataclass(slots=True)
class FakeMeter:
    """Draws `watts`; with `fault` it cannot be read."""

    watts: float = 5.0
    fault: str = ""
    name: str = "fake"
    covers: str = "the test"
    closed: bool = False

    def read(self, now_ns: int) -> Measure:
        """See `Meter`."""
        del now_ns
        if self.fault:
            raise UnavailableError(self.fault)
        return Measure(self.watts)

    def close(self) -> None:
        """Note it."""
        self.closed = True


@dataclass(frozen=True, slots=True)
class FakeBoard:
    """A tree of files below `root`."""

    root: Path

    def put(self, path: Path | str, *values: object) -> Path:
        """Write a file, line ends as in sysfs, in one step so that nobody reads half of it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(file.name + ".draft")
        draft.write_text("".join(f"{value}\n" for value in values), encoding="utf-8")
        return draft.replace(file)

    def ina3221(self, folder: Path, rails: dict[str, tuple[int, int]]) -> None:
        """A chip in the hwmon layout; rails as (millivolts, milliamperes)."""
        self.put(folder / "name", "ina3221")
        for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
            self.put(folder / f"in{channel}_label", label)
            self.put(folder / f"in{channel}_input", millivolts)
            self.put(folder / f"curr{channel}_input", milliamperes)
            self.put(folder / f"in{channel + 3}_input", 12)  # the shunt's voltage
        self.put(folder / "in7_label", "sum of shunt voltages")

    def zone(self, number: int, kind: str, millidegrees: int) -> None:
        """A thermal zone."""
        self.put(f"sys/class/thermal/thermal_zone{number}/type", kind)
        self.put(f"sys/class/thermal/thermal_zone{number}/temp", millidegrees)

    def draw(self, watts: float) -> None:
        """Have the input rail of `orin_nano` draw this, at 5 V."""
        self.put(ORIN / "curr1_input", round(watts * 200))


def orin_nano(root: Path) -> FakeBoard:
    """A Jetson Orin Nano with JetPack 6: 5.032 W at the input."""
    board = FakeBoard(root)
    board.put("sys/class/hwmon/hwmon0/name", "gpio_fan")
    board.ina3221(ORIN, {"VDD_IN": (5000, 1006), "VDD_CPU_GPU_CV": (5000, 130), "VDD_SOC": (5000, 285)})
    for number, (kind, value) in enumerate(
        {"cpu-thermal": 46_500, "gpu-thermal": 45_000, "cv0-thermal": -256_000, "tj-thermal": 47_250}.items()
    ):
        board.zone(number, kind, value)
    return board


def agx_orin(root: Path) -> FakeBoard:
    """A Jetson AGX Orin: two chips, four rails, and none of them the input."""
    board = FakeBoard(root)
    rails = {"VDD_GPU_SOC": (20_000, 119), "VDD_CPU_CV": (20_000, 20), "VIN_SYS_5V0": (5000, 612)}
    board.ina3221(Path("sys/class/hwmon/hwmon3"), rails)
    board.ina3221(Path("sys/class/hwmon/hwmon4"), {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 81)})
    return board


def xavier_nx(root: Path) -> FakeBoard:
    """A Jetson Xavier NX with JetPack 4: 3.584 W at the input, and the zone that always tells 100 degrees."""
    board = FakeBoard(root)
    rails = {"VDD_IN": 3584, "VDD_CPU_GPU_CV": 489, "VDD_SOC": 1019}
    for channel, (name, milliwatts) in enumerate(rails.items()):
        board.put(XAVIER / f"rail_name_{channel}", name)
        board.put(XAVIER / f"in_power{channel}_input", milliwatts)
    board.zone(0, "AO-therm", 38_000)
    board.zone(1, "PMIC-Die", 100_000)
    return board


def desktop(root: Path, *, packages: int = 1) -> FakeBoard:
    """An x86 machine: RAPL counters with their sub-domains, a GPU's own sensor, two zones of one type."""
    board = FakeBoard(root)
    for number in range(packages):
        parts = {f"intel-rapl:{number}": f"package-{number}", f"intel-rapl:{number}:0": "core"}
        for folder, name in (parts | {f"intel-rapl:{number}:1": "dram"}).items():
            board.put(RAPL / folder / "name", name)
            board.put(RAPL / folder / "energy_uj", 1_000_000)
            board.put(RAPL / folder / "max_energy_range_uj", RAPL_RANGE_UJ)
    board.put(RAPL / "intel-rapl/enabled", 1)
    board.put("sys/class/hwmon/hwmon1/name", "amdgpu")
    board.put("sys/class/hwmon/hwmon1/power1_average", 31_000_000)
    board.put("sys/class/hwmon/hwmon1/power1_label", "slowPPT")
    board.zone(0, "acpitz", 27_800)
    board.zone(1, "acpitz", 29_800)
    board.zone(2, "x86_pkg_temp", 51_000)
    return board


def raspberry(root: Path) -> FakeBoard:
    """A board that tells a temperature and no power."""
    board = FakeBoard(root)
    board.zone(0, "cpu-thermal", 52_072)
    return board
