"""Which meter there is: the first of them all, or the one that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_node.power.hwmon import find_hwmon
from edge_node.power.ina3221 import find_ina3221
from edge_node.power.meter import Meter
from edge_node.power.nvml import find_nvml
from edge_node.power.rapl import find_rapl
from edge_node.power.tegrastats import find_tegrastats
from fusion.errors import UnavailableError

NOTHING = "no power sensor was found"
OFF = "switched off"
Find = Callable[[Path, str], Meter | None]


def find_meter(source: str, root: Path = Path("/"), *, period_s: float = 1.0) -> tuple[Meter | None, str]:
    """The meter that `source` asks for below `root`, or None with the reason, in a few words.

    `source` is `auto`, `off`, or a kind, with the sensor behind a colon: `ina3221:VDD_IN`. `auto` goes from what
    covers the whole board to what covers a part: ina3221, tegrastats, hwmon, rapl, nvml.
    """
    if source == "off":
        return None, OFF
    tegrastats = partial(find_tegrastats, period_s=period_s)
    kinds: dict[str, Find] = {
        "ina3221": find_ina3221, "tegrastats": tegrastats, "hwmon": find_hwmon, "rapl": find_rapl, "nvml": find_nvml,
    }  # fmt: skip
    kind, _, wanted = source.partition(":")
    reasons = []
    for find in kinds.values() if kind == "auto" else [kinds[kind]]:
        try:
            if meter := find(root, wanted):
                return meter, ""
        except UnavailableError as error:
            reasons.append(str(error))
    return None, "; ".join(reasons) or (NOTHING if kind == "auto" else f"no {kind} was found")
