"""Meters on trees of files: what each board tells, in watts, and the reason where it tells nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_node.power import Measure, fakes, find_meter, find_thermals
from edge_node.power.hwmon import find_hwmon
from edge_node.power.ina3221 import find_ina3221
from edge_node.power.nvml import find_nvml
from edge_node.power.rapl import find_rapl
from fusion.errors import UnavailableError

S = 10**9


def test_an_orin_tells_its_input_rail_and_its_warm_zones(tmp_path):
    fakes.orin_nano(tmp_path)
    meter, why = find_meter("auto", tmp_path)
    assert (meter.name, meter.covers, why) == ("ina3221 VDD_IN", "the board's input", "")
    assert meter.read(0) == Measure(pytest.approx(5.03))
    assert find_thermals(tmp_path).read() == {"cpu-thermal": 46.5, "gpu-thermal": 45.0, "tj-thermal": 47.25}


def test_an_older_xavier_tells_its_input_rail_in_the_older_layout(tmp_path):
    fakes.xavier_nx(tmp_path)
    meter, _ = find_meter("auto", tmp_path)
    assert meter.name == "ina3221 VDD_IN"
    assert meter.read(0).watts == pytest.approx(3.584)
    assert find_thermals(tmp_path).read() == {"AO-therm": 38.0}


def test_a_nano_calls_its_input_rail_otherwise(tmp_path):
    board = fakes.FakeBoard(tmp_path)
    board.put("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0", "POM_5V_IN")
    board.put("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input", 2532)
    assert find_meter("auto", tmp_path)[0].read(0).watts == pytest.approx(2.532)


def test_rails_that_feed_each_other_are_never_added_up(tmp_path):
    fakes.agx_orin(tmp_path)
    meter, why = find_meter("auto", tmp_path)
    assert meter is None
    rails = "VDDQ_VDD2_1V8AO, VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0"
    assert why == f"ina3221: no rail of it is the board's input; there are {rails}"
    named, _ = find_meter("ina3221:VDD_GPU_SOC", tmp_path)
    assert (named.name, named.covers) == ("ina3221 VDD_GPU_SOC", "the rail VDD_GPU_SOC")
    assert named.read(0).watts == pytest.approx(2.38)
    with pytest.raises(UnavailableError, match="no rail is called 'VDD_MOON'; there are"):
        find_ina3221(tmp_path, "VDD_MOON")


def test_a_rail_that_vanishes_or_tells_nonsense_is_named(tmp_path):
    board = fakes.orin_nano(tmp_path)
    meter, _ = find_meter("auto", tmp_path)
    board.put(fakes.ORIN / "in1_input", "n/a")
    with pytest.raises(UnavailableError, match="hwmon3/in1_input: 'n/a' is no number"):
        meter.read(0)
    (tmp_path / fakes.ORIN / "in1_input").unlink()
    with pytest.raises(UnavailableError, match="hwmon3/in1_input: no such file"):
        meter.read(0)


def test_a_desktop_tells_its_package_and_not_the_parts_of_it(tmp_path):
    board = fakes.desktop(tmp_path, packages=2)
    meter, _ = find_meter("auto", tmp_path)
    assert (meter.name, meter.covers) == ("rapl package-0+package-1", "the CPU packages")
    assert meter.read(0) == Measure()
    board.put(fakes.RAPL / "intel-rapl:0/energy_uj", 1_000_000 + 30_000_000)
    board.put(fakes.RAPL / "intel-rapl:0:0/energy_uj", 1_000_000 + 20_000_000)
    board.put(fakes.RAPL / "intel-rapl:1/energy_uj", 1_000_000 + 10_000_000)
    assert meter.read(2 * S) == Measure(pytest.approx(20.0), pytest.approx(40.0))
    assert find_meter("rapl:package-1", tmp_path)[0].name == "rapl package-1"
    assert "no package is called 'package-7'" in find_meter("rapl:package-7", tmp_path)[1]


def test_a_counter_that_wraps_goes_on(tmp_path):
    board = fakes.desktop(tmp_path)
    counter = fakes.RAPL / "intel-rapl:0/energy_uj"
    board.put(counter, fakes.RAPL_RANGE_UJ - 4_000_000)
    meter = find_rapl(tmp_path)
    meter.read(0)
    board.put(counter, 6_000_000)
    assert meter.read(S) == Measure(pytest.approx(10.0), pytest.approx(10.0))


def test_a_counter_that_was_set_back_is_not_taken_for_one_that_wrapped(tmp_path):
    board = fakes.desktop(tmp_path)
    counter = fakes.RAPL / "intel-rapl:0/energy_uj"
    board.put(counter, 90_000_000)
    meter = find_rapl(tmp_path)
    meter.read(0)
    board.put(counter, 1_000_000)
    assert meter.read(S) == Measure()
    board.put(counter, 3_000_000)
    assert meter.read(2 * S).watts == pytest.approx(2.0)


def test_a_counter_that_failed_counts_nothing_over_the_failure(tmp_path):
    board = fakes.desktop(tmp_path)
    counter = fakes.RAPL / "intel-rapl:0/energy_uj"
    meter = find_rapl(tmp_path)
    meter.read(0)
    (tmp_path / counter).unlink()
    with pytest.raises(UnavailableError, match="intel-rapl:0/energy_uj: no such file"):
        meter.read(S)
    board.put(counter, 500_000_000)
    assert meter.read(2 * S) == Measure()
    board.put(counter, 507_000_000)
    assert meter.read(3 * S).watts == pytest.approx(7.0)


def test_a_counter_that_only_root_may_read_is_named(tmp_path, monkeypatch):
    fakes.desktop(tmp_path)
    read = Path.read_text

    def guarded(self, *given, **more):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *given, **more)

    monkeypatch.setattr(Path, "read_text", guarded)
    meter, why = find_meter("auto", tmp_path)
    assert meter is None
    assert "intel-rapl:0/energy_uj: permission denied" in why


def test_of_several_sensors_one_must_be_named(tmp_path):
    board = fakes.FakeBoard(tmp_path)
    for number, chip in enumerate(("ina219", "ina226")):
        board.put(f"sys/class/hwmon/hwmon{number}/name", chip)
        board.put(f"sys/class/hwmon/hwmon{number}/power1_input", 3_250_000 + number)
    with pytest.raises(
        UnavailableError, match="2 sensors to choose from; there are ina219/power1, ina226/power1: name"
    ):
        find_hwmon(tmp_path)
    meter, _ = find_meter("hwmon:ina219", tmp_path)
    assert (meter.name, meter.covers, meter.read(0).watts) == ("hwmon ina219/power1", "what ina219 measures", 3.25)
    board.put("sys/class/hwmon/hwmon2/name", "power_meter")
    board.put("sys/class/hwmon/hwmon2/power1_average", 99_000_000)
    board.put("sys/class/hwmon/hwmon2/power1_average_interval", 1000)
    meter, _ = find_meter("auto", tmp_path)
    assert (meter.name, meter.covers, meter.read(0).watts) == ("hwmon power_meter/power1", "the machine", 99.0)


def test_a_sensor_of_a_part_is_taken_only_when_named(tmp_path):
    fakes.desktop(tmp_path)
    with pytest.raises(
        UnavailableError, match="no sensor of them measures the whole machine; there are amdgpu/slowPPT"
    ):
        find_hwmon(tmp_path)
    assert find_meter("hwmon:amdgpu/slowPPT", tmp_path)[0].read(0).watts == 31.0
    assert "no sensor is called 'moon'" in find_meter("hwmon:moon", tmp_path)[1]


def test_zones_of_one_type_keep_apart_and_one_that_cannot_be_read_is_left_out(tmp_path):
    fakes.desktop(tmp_path)
    thermals = find_thermals(tmp_path)
    assert thermals.read() == {"acpitz-0": 27.8, "acpitz-1": 29.8, "x86_pkg_temp": 51.0}
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").unlink()
    assert thermals.read() == {"acpitz-0": 27.8, "x86_pkg_temp": 51.0}


def test_a_board_without_sensors_measures_nothing(tmp_path):
    assert find_meter("auto", tmp_path) == (None, "no power sensor was found")
    assert find_thermals(tmp_path).read() == {}
    fakes.raspberry(tmp_path)
    assert find_meter("auto", tmp_path) == (None, "no power sensor was found")
    assert find_thermals(tmp_path).read() == {"cpu-thermal": 52.072}
    assert find_meter("rapl", tmp_path) == (None, "no rapl was found")
    assert find_meter("off", tmp_path) == (None, "switched off")


class NvmlError(Exception):
    """What the driver raises."""


class FakeDriver:
    """A driver with one GPU; `library` is what the module offers of it."""

    def __init__(self) -> None:
        self.milliwatts: int | None = 70_123
        self.open = 0
        self.library = SimpleNamespace(
            NVMLError=NvmlError,
            nvmlInit=lambda: self.opened(1),
            nvmlShutdown=lambda: self.opened(-1),
            nvmlDeviceGetHandleByIndex=self.handle,
            nvmlDeviceGetName=lambda handle: b"NVIDIA L4",
            nvmlDeviceGetPowerUsage=self.power,
        )

    def opened(self, by: int) -> None:
        self.open += by

    def handle(self, number: int) -> int:
        if number:
            raise NvmlError("Invalid Argument")
        return number

    def power(self, handle: int) -> int:
        if self.milliwatts is None:
            raise NvmlError("Not Supported")
        return self.milliwatts


def test_a_gpu_tells_its_own_power(tmp_path):
    driver = FakeDriver()
    library = driver.library
    assert find_nvml(tmp_path, library=library) is None
    with pytest.raises(UnavailableError, match="no NVIDIA driver is loaded"):
        find_nvml(tmp_path, "0", library=library)
    fakes.FakeBoard(tmp_path).put("dev/nvidiactl")
    meter = find_nvml(tmp_path, library=library)
    assert (meter.name, meter.covers) == ("nvml GPU 0", "the NVIDIA L4 alone")
    assert meter.read(0).watts == pytest.approx(70.123)
    driver.milliwatts = None
    with pytest.raises(UnavailableError, match="nvml GPU 0: not supported"):
        meter.read(0)
    meter.close()
    meter.close()
    assert driver.open == 0
    with pytest.raises(UnavailableError, match="nvml: GPU 0: not supported"):
        find_nvml(tmp_path, library=library)
    with pytest.raises(UnavailableError, match="nvml: GPU 1: invalid argument"):
        find_nvml(tmp_path, "1", library=library)
    with pytest.raises(UnavailableError, match="'x' is no GPU's number"):
        find_nvml(tmp_path, "x", library=library)
    assert driver.open == 0


def test_a_gpu_without_the_package_is_told(tmp_path, monkeypatch):
    fakes.FakeBoard(tmp_path).put("dev/nvidiactl")
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert find_meter("auto", tmp_path)[1] == "nvml: there is a GPU, but the package nvidia-ml-py is not installed"
