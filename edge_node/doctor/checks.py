"""What a device needs besides a fast engine, each as a line: ok, warn or fail, with what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from edge_node.config import LIVE, MIB, EdgeSettings
from edge_node.doctor.machine import Machine, clock_synchronised
from edge_node.live import LiveSource
from edge_node.power import find_meter
from fusion.checks import Check, State
from fusion.engines import engines_here
from fusion.errors import FusionError
from fusion.task import Task

SUMS = "SHA256SUMS"
CONNECT_S = 2.0
_LEAST_FREE = 512 * MIB
_SAMPLE_BYTES = 7500
"""What a sample with its items takes in the spool's history, about, on the yard's patrol."""
_BUSY = 0.5
"""Programs for each core from which on a trial is disturbed."""
_ISA = ("sse4_1", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
_OPTIONAL = {
    "av": "video files", "rosbags": "ROS bags", "ouster": "Ouster captures", "soundfile": "sound files",
    "pynvml": "power of NVIDIA GPUs", "sounddevice": "microphones",
    "prometheus_client": "metrics", "rich": "edge-node top",
}  # fmt: skip


def all_checks(settings: EdgeSettings, models: Path, machine: Machine) -> Iterator[Check]:
    """Everything that is checked, cheapest first."""
    yield check_python()
    yield from check_machine(machine)
    yield check_load(machine, os.getloadavg()[0])
    yield check_engines()
    yield from check_models(models)
    yield check_spool(settings)
    yield check_source(settings)
    yield check_power(settings)
    yield check_clock()
    yield check_service(settings)
    yield check_packages()


def check_python() -> Check:
    """Whether this Python is one that the stack is built for."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Check(State.OK, "python", version) if fits else Check(State.FAIL, "python", version, "use 3.11 or 3.12")


def check_machine(machine: Machine) -> Iterator[Check]:
    """Processor, cores and memory."""
    known = [flag for flag in _ISA if flag in machine.flags]
    slow = not machine.flags & {"avx2", "asimd"}
    advice = "no AVX2 or NEON: inference will be several times slower" if slow else ""
    yield Check(State.WARN if slow else State.OK, "cpu", f"{machine.cpu}: {', '.join(known) or 'no vectors'}", advice)
    told = f"{machine.cores} usable"
    if machine.limit is not None:
        told += f", limited to {machine.limit:g} by cgroup"
    tight = machine.limit is not None and machine.limit < machine.cores
    advice = f"more than {machine.threads} threads would be throttled" if tight else ""
    yield Check(State.WARN if tight else State.OK, "cores", told, advice)
    told = f"{machine.free_bytes / MIB:.0f} of {machine.memory_bytes / MIB:.0f} MiB free"
    scarce = machine.free_bytes < _LEAST_FREE
    yield Check(State.WARN if scarce else State.OK, "memory", told, "free 512 MiB for the daemon" if scarce else "")


def check_load(machine: Machine, running: float) -> Check:
    """Whether the machine is quiet enough to measure on; `running` programs want a core, on average of a minute."""
    told = f"{running:.1f} programs want one of {machine.cores} cores"
    if running > _BUSY * machine.cores:
        return Check(State.WARN, "load", told, "the trial's figures will be off; stop the others, and the daemon")
    return Check(State.OK, "load", told)


def check_engines() -> Check:
    """Whether any engine can run here."""
    found = engines_here()
    told = "; ".join(f"{name} ({', '.join(each)})" for name, each in found.items())
    if not told:
        return Check(State.FAIL, "engines", "none", "install fusion-stack[edge]")
    return Check(State.OK, "engines", told)


def check_models(folder: Path) -> Iterator[Check]:
    """Every file that the model folder's digests name, as they name it."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        yield Check(State.WARN, "models", f"{folder}: no {SUMS}", "nothing proves that these models belong together")
        return
    wanted = [(digest, name.strip().lstrip("*")) for digest, _, name in (line.partition(" ") for line in lines)]
    missing = [name for _, name in wanted if not (folder / name).is_file()]
    changed = [name for digest, name in wanted if name not in missing and _sha256(folder / name) != digest]
    if changed:
        yield Check(State.FAIL, "models", f"{folder}: changed: {', '.join(changed)}", "install the bundle again")
    if missing:
        yield Check(State.WARN, "models", f"{folder}: missing: {', '.join(missing)}", "install the bundle again")
    if not changed and not missing:
        yield Check(State.OK, "models", f"{folder}: {len(wanted)} files as in {SUMS}")


def check_spool(settings: EdgeSettings) -> Check:
    """Whether the spool can be written, and its caps can be kept."""
    spool = settings.spool
    folder = spool.path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    free, most = shutil.disk_usage(folder).free, spool.max_bytes + spool.history_samples * _SAMPLE_BYTES
    told = f"{folder}: {free / MIB:.0f} MiB free for about {most / MIB:.0f}, history included"
    if not os.access(folder, os.W_OK):
        return Check(State.FAIL, "spool", f"{folder}: cannot be written", "set spool.path to a folder that can")
    if free < spool.keep_free_bytes:
        return Check(State.FAIL, "spool", told, "free some disk: below spool.keep_free_bytes everything is shed")
    if free < most + spool.keep_free_bytes:
        return Check(State.WARN, "spool", told, "free some disk, or lower spool.max_bytes or spool.history_samples")
    return Check(State.OK, "spool", told)


def check_source(settings: EdgeSettings) -> Check:
    """Whether what the source reads is there; of live sensors, whether their drivers and their calibration are."""
    if settings.source.kind == LIVE:
        return _check_sensors(settings)
    path = settings.source.path
    if settings.source.kind != "recording" or path.exists():
        return Check(State.OK, "source", str(path))
    return Check(State.FAIL, "source", f"{path}: not there", "set source.path")


def _check_sensors(settings: EdgeSettings) -> Check:
    try:
        LiveSource.open(settings.source, Task.load(settings.task))
    except FusionError as error:
        return Check(State.FAIL, "source", str(error), "mend [[source.sensors]]; docs/sensors.md")
    urls = {sensor.name: sensor.url for sensor in settings.source.sensors}
    for name, asked in (("trigger", settings.source.trigger), ("odometry", settings.source.odometry)):
        if asked:
            urls[name] = asked.url
    named = ", ".join(f"{name} by {url.partition(':')[0]}" for name, url in urls.items())
    return Check(State.OK, "source", f"live: {named}; whether they deliver is seen when they run")


def check_power(settings: EdgeSettings) -> Check:
    """Which meter is read, if any."""
    meter, why = find_meter(settings.power.source)
    if meter is None:
        wanted = bool(settings.power.budget_watts)
        advice = "power.budget_watts needs one" if wanted else "joules a sample will be 'not measured'"
        return Check(State.FAIL if wanted else State.WARN, "power", why, advice)
    told = f"{meter.name} ({meter.covers})"
    meter.close()
    return Check(State.OK, "power", told)


def check_clock() -> Check:
    """Whether the clock is kept."""
    kept = clock_synchronised()
    if kept is None:
        return Check(State.OK, "clock", "the kernel does not tell whether it is synchronised")
    if kept:
        return Check(State.OK, "clock", "synchronised")
    return Check(
        State.WARN, "clock", "not synchronised", "start chrony or systemd-timesyncd, so that stamps mean something"
    )


def check_service(settings: EdgeSettings, timeout_s: float = CONNECT_S) -> Check:
    """Whether somebody listens where reviews are asked for."""
    address = settings.uplink.address
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        return Check(State.WARN, "service", f"{address}: {reason}", "until it is there, items wait in the spool")
    return Check(State.OK, "service", f"{address}: reachable")


def check_packages() -> Check:
    """Which optional packages are there; none is needed to screen."""
    there = [name for name in _OPTIONAL if find_spec(name)]
    lacking = [f"{name} ({use})" for name, use in _OPTIONAL.items() if name not in there]
    told = ", ".join(there) or "none"
    return Check(State.OK, "packages", f"{told}; not there: {', '.join(lacking)}" if lacking else told)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
