"""The `maps` lane: neck codes inside a gate, and back. Decoding trusts nothing that came over the wire.

What travels: one window a level, one bit a window cell (open or closed), and the rANS words of the open
cells' codes, level after level, channel after channel, cell after cell in row order. Shapes are never sent:
they follow from the profile, the windows and the gate.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from fusion.codec.entropy import decode_symbols, encode_symbols, max_encoded_bytes
from fusion.codec.profile import Profile
from fusion.errors import EvidenceError, ModelError
from fusion.types import BoolArray, CellWindow, GatedMaps, Int8Array

MAX_OPEN_CELLS = 4096
"""The most cells, all levels together, that one item may carry; more is refused before anything is decoded."""


def encode_maps(
    profile: Profile, maps: Sequence[Int8Array], windows: Sequence[CellWindow], gates: Sequence[BoolArray]
) -> GatedMaps:
    """Code what lies inside `windows` where `gates` are open.

    `maps` are the trunk's whole int8 maps, one (K, h, w) a level; `gates` have the windows' shape (height,
    width). Codes beyond a level's clip are clipped. Raises `ModelError` when maps are not the profile's and
    `EvidenceError` when windows or gates do not fit.
    """
    _check_levels(profile, len(maps), ModelError)
    _check_levels(profile, len(gates), EvidenceError)
    _check_windows(profile, windows)
    for gate, window in zip(gates, windows, strict=True):
        if gate.shape != (window.height, window.width) or gate.dtype != np.bool_:
            raise EvidenceError(f"a gate of shape {gate.shape} for a window of {window.height} rows x {window.width}")
    channels = []
    for index, (level, window, gate) in enumerate(zip(profile.levels, windows, gates, strict=True)):
        whole = maps[index]
        if whole.shape != (level.channels, *profile.map_size(index)) or whole.dtype != np.int8:
            raise ModelError(
                f"map {level.name} is {whole.dtype} {whole.shape}; profile {profile.sha256[:12]} has "
                f"int8 {(level.channels, *profile.map_size(index))}"
            )
        inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width]
        codes = inside[:, gate].astype(np.int32)  # (K, open)
        np.clip(codes, -level.clip, level.clip, out=codes)
        codes += level.clip
        channels += list(zip(level.models, codes, strict=True))
    packed = np.packbits(_flat(gates))
    _check_open(int(np.count_nonzero(_flat(gates))))
    gate_bytes, symbols = packed.tobytes(), encode_symbols(channels)
    return GatedMaps(tuple(windows), gate_bytes, symbols, _checksum(windows, gate_bytes, symbols))


def decode_maps(profile: Profile, gated: GatedMaps) -> list[Int8Array]:
    """The codes inside each window, one (K, height, width) int8 a level; closed cells are 0.

    Raises `EvidenceError` on anything malformed. What is allocated is bounded by the profile's own maps.
    """
    gates = unpack_gates(profile, gated)
    counts = [int(np.count_nonzero(gate)) for gate in gates]
    _check_open(sum(counts))
    expected = [(m, n) for level, n in zip(profile.levels, counts, strict=True) for m in level.models]
    if len(gated.symbols) > max_encoded_bytes(sum(n for _, n in expected)):
        raise EvidenceError(f"{len(gated.symbols)} bytes of symbols are more than {sum(counts)} open cells can take")
    if gated.crc32 != _checksum(gated.windows, gated.gate, gated.symbols):
        raise EvidenceError("the checksum of the maps is wrong: they were damaged on the way")
    decoded = iter(decode_symbols(gated.symbols, expected))
    maps = []
    for level, gate in zip(profile.levels, gates, strict=True):
        codes = np.zeros((level.channels, *gate.shape), np.int8)
        symbols = np.stack([next(decoded) for _ in range(level.channels)])
        codes[:, gate] = symbols - level.clip
        maps.append(codes)
    return maps


def unpack_gates(profile: Profile, gated: GatedMaps) -> list[BoolArray]:
    """Which cells of each window are open, one (height, width) a level.

    Raises `EvidenceError` when windows leave the maps or the gate has not exactly one bit a cell.
    """
    _check_windows(profile, gated.windows)
    cells = sum(window.cells for window in gated.windows)
    if len(gated.gate) != (cells + 7) // 8:
        raise EvidenceError(f"a gate of {len(gated.gate)} bytes for windows of {cells} cells")
    bits = np.unpackbits(np.frombuffer(gated.gate, np.uint8)).astype(np.bool_)
    if bits[cells:].any():
        raise EvidenceError("the gate has bits beyond its windows' cells")
    gates, start = [], 0
    for window in gated.windows:
        gates.append(bits[start : start + window.cells].reshape(window.height, window.width))
        start += window.cells
    return gates


def _flat(gates: Sequence[BoolArray]) -> BoolArray:
    return np.concatenate([gate.ravel() for gate in gates])


def _check_levels(profile: Profile, found: int, kind: type[EvidenceError | ModelError]) -> None:
    if found != len(profile.levels):
        raise kind(f"{found} levels; profile {profile.sha256[:12]} has {len(profile.levels)}")


def _check_windows(profile: Profile, windows: Sequence[CellWindow]) -> None:
    _check_levels(profile, len(windows), EvidenceError)
    for index, window in enumerate(windows):
        height, width = profile.map_size(index)
        inside_x = 0 <= window.x <= window.x + window.width <= width and window.width >= 0
        inside_y = 0 <= window.y <= window.y + window.height <= height and window.height >= 0
        if not (inside_x and inside_y):
            raise EvidenceError(
                f"a window of {window.width}x{window.height} cells at ({window.x}, {window.y}) "
                f"leaves the {width}x{height} cells of {profile.levels[index].name}"
            )


def _check_open(cells: int) -> None:
    if cells > MAX_OPEN_CELLS:
        raise EvidenceError(f"{cells} open cells; at most {MAX_OPEN_CELLS} an item are allowed")


def _checksum(windows: Sequence[CellWindow], gate: bytes, symbols: bytes) -> int:
    """CRC-32 over the windows (four little-endian uint32 each), the gate and the symbols."""
    crc = 0
    for window in windows:
        crc = zlib.crc32(struct.pack("<4I", window.x, window.y, window.width, window.height), crc)
    return zlib.crc32(symbols, zlib.crc32(gate, crc))
