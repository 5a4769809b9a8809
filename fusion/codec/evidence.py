"""The `maps` lane: neck codes inside a gate, and back. Decoding trusts nothing that came over the wire.

What travels: one window a level, one bit a window cell (open or closed), a step exponent, and layers of coded symbols
(`fusion.codec.layers` says which channels are in which), part after part, channel after channel, cell after cell in
row order. Shapes are never sent: they follow from the profile, the windows and the gate. Any first few layers decode
to the same codes with the missing channels 0.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.codec.entropy import (
    HAS_RANS,
    decode_symbols,
    encode_symbols,
    max_encoded_bytes,
    max_packed_bytes,
    pack_symbols,
    unpack_symbols,
)
from fusion.codec.layers import LAYERS, Part, layer_parts, whole_part
from fusion.codec.profile import LevelCoder, Profile
from fusion.codec.steps import coarser_symbols, codes_of
from fusion.errors import EvidenceError, ModelError
from fusion.types import BoolArray, CellWindow, GatedMaps, Int8Array, MapLayer, SymbolCoding

MAX_OPEN_CELLS = 4096
"""The most cells, all levels together, that one item may carry; more is refused before anything is decoded."""
_RANS = SymbolCoding.RANS


def encode_maps(
    profile: Profile,
    maps: Sequence[Int8Array],
    windows: Sequence[CellWindow],
    gates: Sequence[BoolArray],
    *,
    step_exponent: int = 0,
    layers: int = LAYERS,
) -> GatedMaps:
    """Code what lies inside `windows` where `gates` are open, in steps of 2^`step_exponent`, the first `layers` layers.

    `maps` are the trunk's whole int8 maps, one (K, h, w) a level; `gates` have the windows' shape (height,
    width). Codes beyond a level's clip are clipped. Raises `ModelError` when maps are not the profile's or cannot be
    told in such steps, and `EvidenceError` when windows or gates do not fit.
    """
    _check_levels(profile, len(maps), ModelError)
    _check_levels(profile, len(gates), EvidenceError)
    _check_windows(profile, windows)
    for gate, window in zip(gates, windows, strict=True):
        if gate.shape != (window.height, window.width) or gate.dtype != np.bool_:
            raise EvidenceError(f"a gate of shape {gate.shape} for a window of {window.height} rows x {window.width}")
    packed = np.packbits(_flat(gates)).tobytes()
    _check_open(int(np.count_nonzero(_flat(gates))))
    coders, symbols = _coders(profile, step_exponent, ModelError), []
    for index, (level, window, gate) in enumerate(zip(profile.levels, windows, gates, strict=True)):
        whole = maps[index]
        if whole.shape != (level.channels, *profile.map_size(index)) or whole.dtype != np.int8:
            raise ModelError(
                f"map {level.name} is {whole.dtype} {whole.shape}; profile {profile.sha256[:12]} has "
                f"int8 {(level.channels, *profile.map_size(index))}"
            )
        inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width]
        codes = np.clip(inside[:, gate].astype(np.int32), -level.clip, level.clip)  # (K, open)
        symbols.append(coarser_symbols(codes, step_exponent))
    coded = []
    for number, parts in enumerate(layer_parts(profile)[:layers]):
        data, coding = _code(parts, coders, symbols)
        coded.append(MapLayer(data, _checksum(windows, packed, step_exponent, number, data), coding))
    return GatedMaps(tuple(windows), packed, tuple(coded), step_exponent)


def decode_maps(profile: Profile, gated: GatedMaps) -> list[Int8Array]:
    """The codes inside each window, one (K, height, width) int8 a level; closed cells and channels not sent are 0.

    Raises `EvidenceError` on anything malformed. What is allocated is bounded by the profile's own maps.
    """
    gates = unpack_gates(profile, gated)
    counts = [int(np.count_nonzero(gate)) for gate in gates]
    _check_open(sum(counts))
    coders = _coders(profile, gated.step_exponent, EvidenceError)
    plan = (whole_part(profile),) if gated.whole else layer_parts(profile)
    if not 1 <= len(gated.layers) <= len(plan) or (gated.whole and gated.step_exponent):
        raise EvidenceError(f"{len(gated.layers)} layers; evidence has 1 to {len(plan)}")
    for number, (layer, parts) in enumerate(zip(gated.layers, plan, strict=False)):
        total = sum((part.stop - part.start) * counts[part.level] for part in parts)
        most = max_encoded_bytes(total) if layer.coding is _RANS else max_packed_bytes(total)
        if len(layer.symbols) > most:
            raise EvidenceError(
                f"{len(layer.symbols)} bytes of symbols are more than {sum(counts)} open cells can take"
            )
        if layer.crc32 != layer_checksum(gated, number):
            raise EvidenceError("the checksum of the maps is wrong: they were damaged on the way")
    maps = [np.zeros((level.channels, *gate.shape), np.int8) for level, gate in zip(profile.levels, gates, strict=True)]
    for layer, parts in zip(gated.layers, plan, strict=False):
        for part, symbols in zip(parts, _decode(layer, parts, coders, counts), strict=True):
            codes = codes_of(symbols, gated.step_exponent, profile.levels[part.level].clip)
            maps[part.level][part.start : part.stop, gates[part.level]] = codes
    return maps


def layer_checksum(gated: GatedMaps, number: int) -> int:
    """What the checksum of layer `number` (from 0) must be."""
    symbols = gated.layers[number].symbols
    if gated.whole:
        return zlib.crc32(symbols, _place_checksum(gated.windows, gated.gate))
    return _checksum(gated.windows, gated.gate, gated.step_exponent, number, symbols)


def _code(
    parts: Sequence[Part], coders: Sequence[LevelCoder], symbols: Sequence[NDArray[np.int32]]
) -> tuple[bytes, SymbolCoding]:
    """The bytes of a layer's symbols, (K, open) a level, and how they were coded."""
    if not HAS_RANS:
        plain = [row for part in parts for row in symbols[part.level][part.start : part.stop]]
        return pack_symbols(plain), SymbolCoding.ZSTD
    channels = []
    for part in parts:
        coder, rows = coders[part.level], symbols[part.level][part.start : part.stop]
        channels += list(zip(coder.models[part.start : part.stop], rows + coder.largest, strict=True))
    return encode_symbols(channels), _RANS


def _decode(
    layer: MapLayer, parts: Sequence[Part], coders: Sequence[LevelCoder], counts: Sequence[int]
) -> list[NDArray[np.int32]]:
    """A layer's symbols, (channels, open) a part, all within what the coder's tables know."""
    channels = [(part.level, channel) for part in parts for channel in range(part.start, part.stop)]
    if layer.coding is SymbolCoding.ZSTD:
        rows = iter(unpack_symbols(layer.symbols, [counts[level] for level, _ in channels]))
    else:
        models = [(coders[level].models[channel], counts[level]) for level, channel in channels]
        rows = iter(decode_symbols(layer.symbols, models))
    found = []
    for part in parts:
        table = np.empty((part.stop - part.start, counts[part.level]), np.int32)
        for row in table:
            row[:] = next(rows)
        largest = coders[part.level].largest
        if layer.coding is _RANS:
            table -= largest  # the coder counts from 0
        elif np.abs(table).max(initial=0) > largest:
            raise EvidenceError("symbols beyond the profile's clip")
        found.append(table)
    return found


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


def _coders(profile: Profile, step_exponent: int, kind: type[EvidenceError | ModelError]) -> list[LevelCoder]:
    """Each level's coder for these steps."""
    most = profile.max_step_exponent
    if not 0 <= step_exponent <= most:
        raise kind(f"steps of 2^{step_exponent}; trunk {profile.sha256[:12]} can be told in 2^0 to 2^{most}")
    return [level.coders[step_exponent] for level in profile.levels]


def _place_checksum(windows: Sequence[CellWindow], gate: bytes) -> int:
    """CRC-32 over the windows (four little-endian uint32 each) and the gate."""
    crc = 0
    for window in windows:
        crc = zlib.crc32(struct.pack("<4I", window.x, window.y, window.width, window.height), crc)
    return zlib.crc32(gate, crc)


def _checksum(windows: Sequence[CellWindow], gate: bytes, step_exponent: int, number: int, symbols: bytes) -> int:
    """The same, and over the step exponent and the layer's number (a byte each), and its symbols."""
    return zlib.crc32(symbols, zlib.crc32(bytes((step_exponent, number)), _place_checksum(windows, gate)))
