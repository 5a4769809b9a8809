"""An NVIDIA GPU through NVML, where the optional module `pynvml` (package `nvidia-ml-py`) is installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_node.power.meter import Measure, Meter
from fusion.errors import UnavailableError


@dataclass(slots=True)
class Nvml:
    """One GPU; `library` is the module, or what stands in for it."""

    name: str
    covers: str
    library: Any
    handle: Any
    _open: bool = True

    def read(self, now_ns: int) -> Measure:
        """See `Meter`."""
        del now_ns
        try:
            return Measure(self.library.nvmlDeviceGetPowerUsage(self.handle) / 1e3)
        except self.library.NVMLError as error:
            raise UnavailableError(f"{self.name}: {str(error).lower()}") from None

    def close(self) -> None:
        """Release the library."""
        if self._open:
            self._open = False
            self.library.nvmlShutdown()


def find_nvml(root: Path, wanted: str = "", *, library: Any = None) -> Meter | None:
    """GPU number `wanted`, the first without it; None without a GPU's driver.

    Raises `UnavailableError` when the module is not installed, or the GPU does not tell its power.
    """
    if not (root / "dev/nvidiactl").exists():
        if wanted:
            raise UnavailableError("nvml: no NVIDIA driver is loaded")
        return None
    if not wanted.isdecimal() and wanted:
        raise UnavailableError(f"nvml: {wanted!r} is no GPU's number")
    nvml = library or _library()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise UnavailableError(f"nvml: {str(error).lower()}") from None
    number = int(wanted or "0")
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(number)
        called = nvml.nvmlDeviceGetName(handle)
        called = called.decode() if isinstance(called, bytes) else called
        nvml.nvmlDeviceGetPowerUsage(handle)
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        raise UnavailableError(f"nvml: GPU {number}: {str(error).lower()}") from None
    return Nvml(f"nvml GPU {number}", f"the {called} alone", nvml, handle)


def _library() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        raise UnavailableError("nvml: there is a GPU, but the package nvidia-ml-py is not installed") from None
