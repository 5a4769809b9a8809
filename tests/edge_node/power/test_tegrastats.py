"""tegrastats: its lines, and the program started, read and ended; a script stands in for it."""

from __future__ import annotations

import time

import pytest

from edge_node.power import find_meter, tegrastats
from edge_node.power.tegrastats import Tegrastats, parse_rails
from fusion.clock import ManualClock
from fusion.errors import UnavailableError

ORIN = (
    "05-15-2026 21:25:52 RAM 3709/7607MB (lfb 21x4MB) SWAP 138/3804MB (cached 0MB) CPU [2%@729,0%@729,off,off] "
    "GR3D_FREQ 0% cpu@46.5C tj@47.25C VDD_IN 5032mW/4988mW VDD_CPU_GPU_CV 651mW/640mW VDD_SOC 1424mW/1420mW"
)
NANO = "RAM 1024/3964MB (lfb 4x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102] PLL@30C POM_5V_IN 2532/2510 POM_5V_GPU 123/120"


def test_rails_of_a_line_are_watts_of_now():
    assert parse_rails(ORIN) == {"VDD_IN": 5.032, "VDD_CPU_GPU_CV": 0.651, "VDD_SOC": 1.424}
    assert parse_rails(NANO) == {"POM_5V_IN": 2.532, "POM_5V_GPU": 0.123}
    assert parse_rails("") == {}


@pytest.fixture
def program(tmp_path):
    """A program below the root that writes `lines` and then lives on."""

    def make(*lines: str, end: str = "exec sleep 60") -> None:
        path = tmp_path / "usr/bin/tegrastats"
        path.parent.mkdir(parents=True)
        told = "".join(f"echo '{line}'\n" for line in lines)
        path.write_text(f'#!/bin/sh\ntest "$1" = --interval || exit 9\n{told}{end}\n')
        path.chmod(0o755)

    return make


def test_the_program_is_read_while_it_runs_and_ended_with_its_reader(program, tmp_path):
    program(ORIN, ORIN.replace("5032mW", "6100mW"))
    meter, why = find_meter("auto", tmp_path, period_s=0.25)
    assert why == ""
    assert (meter.name, meter.covers) == ("tegrastats VDD_IN", "the board's input")
    deadline = time.monotonic() + 5
    while meter.read(time.monotonic_ns()).watts != 6.1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    meter.close()
    assert meter._process.poll() is not None
    assert not meter._thread.is_alive()
    meter.close()


def test_a_program_that_names_no_input_rail_or_tells_nothing_is_no_source(program, tmp_path):
    program(ORIN.replace("VDD_IN", "VIN_SYS_5V0"))
    meter, why = find_meter("auto", tmp_path)
    assert meter is None
    assert why.startswith("tegrastats: no VDD_IN or POM_5V_IN or 5V_IN; its lines name VIN_SYS_5V0, ")
    named, _ = find_meter("tegrastats:VIN_SYS_5V0", tmp_path)
    assert (named.name, named.covers) == ("tegrastats VIN_SYS_5V0", "the rail VIN_SYS_5V0")
    named.close()


def watts_become(meter: Tegrastats, watts: float) -> None:
    deadline = time.monotonic() + 20
    while meter.read(time.monotonic_ns()).watts != pytest.approx(watts):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_lines_that_are_no_text_or_too_long_are_passed_over(program, tmp_path):
    program(
        ORIN, r"VDD_IN \0377\0376 5000mW/5000mW", ORIN.replace("5032mW", "9" * 5000 + "mW"), "9" * 200_000,
        ORIN.replace("5032mW", "6100mW"),
    )  # fmt: skip
    meter, _ = find_meter("tegrastats", tmp_path)
    watts_become(meter, 6.1)
    meter.close()


def test_a_program_that_ended_is_started_again(program, tmp_path, monkeypatch):
    """`tegrastats --stop` ends every one on the machine."""
    monkeypatch.setattr(tegrastats, "FIRST_PAUSE_S", 0.05)
    again = tmp_path / "again"
    program(end=f'test -e {again} && {{ echo "{ORIN.replace("5032mW", "6100mW")}"; exec sleep 60; }}; '
            f'touch {again}; echo "{ORIN}"')  # fmt: skip
    meter, _ = find_meter("tegrastats", tmp_path)
    watts_become(meter, 6.1)
    meter.close()
    assert meter._process.poll() is not None
    assert not meter._thread.is_alive()


def test_the_pause_before_a_program_that_ends_at_once_grows(program, tmp_path, monkeypatch):
    monkeypatch.setattr(tegrastats, "FIRST_PAUSE_S", 0.05)
    runs = tmp_path / "runs"
    program(ORIN, end=f"echo run >> {runs}")
    meter, _ = find_meter("tegrastats", tmp_path)
    time.sleep(1.0)
    (tmp_path / "usr/bin/tegrastats").unlink()  # and one that is gone is no reason to give up
    time.sleep(0.5)
    assert meter._thread.is_alive()
    assert 2 <= len(runs.read_text().split()) <= 6
    meter.close()
    assert not meter._thread.is_alive()


def test_a_program_that_ends_is_told_with_its_code(program, tmp_path):
    program(ORIN, end="exit 3")
    meter, _ = find_meter("tegrastats", tmp_path)
    meter._process.wait(5)
    assert meter.read(time.monotonic_ns()).watts == pytest.approx(5.032)
    with pytest.raises(UnavailableError, match=r"tegrastats: no line for [45] s, it ended with code 3"):
        meter.read(time.monotonic_ns() + 4_000_000_000)
    meter.close()


def test_a_program_that_cannot_be_started_is_told(tmp_path):
    with pytest.raises(UnavailableError, match="cannot be started"):
        Tegrastats([str(tmp_path / "nothing")], clock=ManualClock())
    assert "usr/bin/tegrastats is not there" in find_meter("tegrastats:VDD_IN", tmp_path)[1]
