"""What the operating system says of this process, and how one of its helpers is ended."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

MIB = 1 << 20


def seconds_since_start() -> float:
    """How long ago this process was started, interpreter and imports included (Linux, 10 ms steps)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), counted after the name
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def resident_mib() -> tuple[float, float]:
    """Resident memory now and at its highest, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return int(found["VmRSS"]) * 1024 / MIB, int(found["VmHWM"]) * 1024 / MIB


def end_process(process: subprocess.Popen[str] | subprocess.Popen[bytes], grace_s: float = 2.0) -> None:
    """End a helper process: asked to first, made to after `grace_s`; more than once."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
