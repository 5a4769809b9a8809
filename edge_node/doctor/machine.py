"""What this machine is: processor, cores that may be used, memory. Files are read below a root, `/` but in tests."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NTP_ERROR = 5
_TIMEX_BYTES = 512


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` this process may run on; `limit` of processor time in cores by cgroup, None for no limit; bytes."""

    cpu: str
    flags: frozenset[str]
    cores: int
    limit: float | None
    memory_bytes: int
    free_bytes: int

    @property
    def threads(self) -> int:
        """How many threads are worth trying: cores, within the limit."""
        return max(1, min(self.cores, int(self.limit) if self.limit else self.cores))


def this_machine(root: Path = Path("/")) -> Machine:
    """What is told below `root`; unknown is empty or 0, never an error."""
    cpu = _pairs(root / "proc/cpuinfo")
    memory = _pairs(root / "proc/meminfo")
    name = cpu.get("model name") or cpu.get("hardware") or os.uname().machine
    flags = frozenset((cpu.get("flags") or cpu.get("features", "")).split())
    total, free = (int(memory.get(key, "0").split()[0]) * 1024 for key in ("memtotal", "memavailable"))
    limits = list(_cgroup_memory(root))
    if limits:
        total = min([total, *(most for most, _ in limits)])
        free = min([free, *(most - used for most, used in limits)])
    return Machine(name, flags, len(os.sched_getaffinity(0)), _cpu_limit(root), total, free)


def clock_synchronised() -> bool | None:
    """Whether the kernel's clock is kept by NTP or PTP; None where the kernel does not tell."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _NTP_ERROR


def _pairs(path: Path) -> dict[str, str]:
    """`key: value` lines by lower-case key, the first of each."""
    found: dict[str, str] = {}
    for line in _text(path).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip().lower(), value.strip())
    return found


def _cgroups(root: Path) -> Iterator[Path]:
    """Folders of this process's cgroup, version 2, from its own up to the top."""
    own = next((line[3:] for line in _text(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    top = root / "sys/fs/cgroup"
    folder = top / own.strip("/")
    while folder.is_relative_to(top):
        yield folder
        folder = folder.parent


def _cpu_limit(root: Path) -> float | None:
    found = []
    for folder in _cgroups(root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.strip().isdecimal():
            found.append(int(quota) / int(period))
    old = root / "sys/fs/cgroup/cpu"
    quota, period = _text(old / "cpu.cfs_quota_us").strip(), _text(old / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal():
        found.append(int(quota) / int(period))
    return min(found, default=None)


def _cgroup_memory(root: Path) -> Iterator[tuple[int, int]]:
    """(most, used) bytes of every cgroup with a limit."""
    for folder in _cgroups(root):
        most, used = _text(folder / "memory.max").strip(), _text(folder / "memory.current").strip()
        if most.isdecimal() and used.isdecimal():
            yield int(most), int(used)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
