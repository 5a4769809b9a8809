"""A device and the two ceilings of its roofline."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch

PEAKS = {"H100": (989.0, 3.35), "H200": (989.0, 4.8), "A100": (312.0, 2.04), "L40S": (362.0, 0.864)}
"""Dense bfloat16 TFLOP/s and TB/s by a part of the device's name: data sheets of the SXM boards, L40S of its card."""


@dataclass(frozen=True, slots=True)
class Card:
    """The device and its two ceilings."""

    device: torch.device
    name: str
    teraflops: float
    terabytes: float

    def floor_ms(self, flop: float, moved: float) -> float:
        """Milliseconds that `flop` operations and `moved` bytes take at least."""
        return 1e3 * max(flop / (self.teraflops * 1e12), moved / (self.terabytes * 1e12))


def find_card(arguments: argparse.Namespace) -> Card:
    """The device and its ceilings: what the arguments say, else what its data sheet does."""
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    rate, width = arguments.peak_tflops, arguments.peak_tbs
    if known is None and not (rate and width):
        rate, width = rate or 0.1, width or 0.02
        print(
            f"no data sheet of {name!r} here: {rate} TFLOP/s and {width} TB/s are taken; give --peak-tflops, --peak-tbs"
        )
    return Card(device, name, rate or (known or (0, 0))[0], width or (known or (0, 0))[1])
