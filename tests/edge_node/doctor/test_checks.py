"""Checks on made files, made roots and real sockets."""

from __future__ import annotations

import hashlib
import shutil
import socket
from pathlib import Path

import pytest

from edge_node.config import MIB, EdgeSettings
from edge_node.doctor import checks
from edge_node.doctor.machine import Machine, clock_synchronised, this_machine
from fusion.checks import State

CPUINFO = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: sse4_1 avx2 amx_bf16\n\nprocessor\t: 1\nflags\t: none\n"


def settings(tmp_path: Path, **more) -> EdgeSettings:
    return EdgeSettings.model_validate(
        {"source": {"path": tmp_path / "none.mcap"}, "spool": {"path": tmp_path / "spool.db"}, **more}
    )


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_machine_is_read_with_the_tightest_limits_of_its_cgroups(tmp_path):
    root = write(tmp_path, {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n",
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "2048000\n",
        "sys/fs/cgroup/outer/inner/memory.current": "1024000\n",
    })  # fmt: skip
    found = this_machine(root)
    assert found.cpu == "A CPU"
    assert found.flags == {"sse4_1", "avx2", "amx_bf16"}
    assert found.limit == 1.5
    assert (found.memory_bytes, found.free_bytes) == (2_048_000, 1_024_000)
    assert found.threads == 1


def test_an_old_cgroup_and_a_bare_root_are_read_too(tmp_path):
    old = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    assert this_machine(write(tmp_path / "old", old)).limit == 0.5
    bare = this_machine(tmp_path / "bare")
    assert bare.limit is None
    assert bare.memory_bytes == 0
    assert bare.threads == bare.cores >= 1


def test_a_tight_and_slow_machine_is_warned_of():
    slow = Machine("old", frozenset({"sse4_1"}), 8, 1.5, 1 << 30, 1 << 20)
    assert [check.state for check in checks.check_machine(slow)] == [State.WARN] * 3
    fast = Machine("new", frozenset({"avx2"}), 8, None, 1 << 33, 1 << 32)
    assert [check.state for check in checks.check_machine(fast)] == [State.OK] * 3


def test_a_busy_machine_is_none_to_measure_on():
    machine = Machine("new", frozenset({"avx2"}), 4, None, 1 << 33, 1 << 32)
    assert checks.check_load(machine, 0.2).state is State.OK
    assert checks.check_load(machine, 3.0).state is State.WARN


@pytest.mark.parametrize(
    ("change", "states"),
    [
        (lambda folder: None, [State.OK]),
        (lambda folder: (folder / "a").write_text("other"), [State.FAIL]),
        (lambda folder: (folder / "a").unlink(), [State.WARN]),
        (lambda folder: (folder / "SHA256SUMS").unlink(), [State.WARN]),
    ],
)
def test_models_are_as_their_digests_say(tmp_path, change, states):
    (tmp_path / "a").write_text("graph")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'graph').hexdigest()}  a\n")
    change(tmp_path)
    assert [check.state for check in checks.check_models(tmp_path)] == states


def test_the_spool_needs_room_for_its_caps(tmp_path):
    far = {"path": tmp_path / "not" / "yet" / "spool.db"}
    assert checks.check_spool(settings(tmp_path, spool=far)).state is State.OK
    assert checks.check_spool(settings(tmp_path, spool={"max_bytes": 1 << 60})).state is State.WARN
    assert checks.check_spool(settings(tmp_path, spool={"keep_free_bytes": 1 << 60})).state is State.FAIL


def test_the_spool_needs_room_for_its_history_too(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 500 * MIB))
    found = checks.check_spool(settings(tmp_path))
    assert (found.state, found.advice) == (
        State.WARN, "free some disk, or lower spool.max_bytes or spool.history_samples",
    )  # fmt: skip
    assert "500 MiB free for about 614, history included" in found.found
    assert checks.check_spool(settings(tmp_path, spool={"history_samples": 1000})).state is State.OK


def test_a_missing_source_fails(tmp_path):
    assert checks.check_source(settings(tmp_path)).state is State.FAIL
    assert checks.check_source(settings(tmp_path, source={"path": tmp_path})).state is State.OK


@pytest.mark.parametrize(
    ("sensor", "told"),
    [
        ({"name": "frnt", "url": "velodyne://0.0.0.0"}, "no sensor 'frnt'"),
        ({"name": "front", "url": "foo://nowhere"}, "no driver for 'foo'"),
    ],
)
def test_live_sensors_that_cannot_be_meant_fail(tmp_path, sensor, told):
    found = checks.check_source(settings(tmp_path, source={"kind": "live", "sensors": [sensor]}))
    assert found.state is State.FAIL
    assert told in found.found
    good = {"kind": "live", "sensors": [{"name": "roof", "url": "velodyne://0.0.0.0"}]}
    assert checks.check_source(settings(tmp_path, source=good)).state is State.OK


def test_an_address_that_is_none_is_told(tmp_path):
    assert checks.check_service(settings(tmp_path, uplink={"address": "cloud..example:7447"})).state is State.WARN


def test_the_service_is_there_or_not(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert checks.check_service(settings(tmp_path, uplink={"address": address})).state is State.OK
    gone = checks.check_service(settings(tmp_path, uplink={"address": address}))
    assert gone.state is State.WARN
    assert "refused" in gone.found


def test_no_power_sensor_fails_only_where_a_budget_needs_one(tmp_path):
    assert checks.check_power(settings(tmp_path, power={"source": "off"})).state is State.WARN
    gears = [{"rate_hz": 10}, {"rate_hz": 5}]
    budget = {"source": "off", "gears": gears, "budget_watts": 5}
    assert checks.check_power(settings(tmp_path, power=budget)).state is State.FAIL


def test_what_needs_no_files_has_an_answer():
    assert clock_synchronised() in {True, False, None}
    assert checks.check_python().state is State.OK
    assert checks.check_engines().state is State.OK
    assert checks.check_packages().state is State.OK
