"""The evidence codec: what is cut out of the neck maps, and how it becomes a few kilobytes. numpy, no torch."""

from fusion.codec.entropy import empirical_bits, fit_frequencies
from fusion.codec.evidence import MAX_OPEN_CELLS, decode_maps, encode_maps, unpack_gates
from fusion.codec.gate import CELLS_PER_LEVEL, MAX_WINDOW_CELLS, item_gate
from fusion.codec.layers import LAYERS, sent_channels
from fusion.codec.profile import MAX_SIDE, Level, Profile
from fusion.codec.rates import FULL, RATES, Rate, rate_named
from fusion.codec.tokens import dequantize_tokens, quantize_tokens

__all__ = [
    "CELLS_PER_LEVEL",
    "FULL",
    "LAYERS",
    "MAX_OPEN_CELLS",
    "MAX_SIDE",
    "MAX_WINDOW_CELLS",
    "RATES",
    "Level",
    "Profile",
    "Rate",
    "decode_maps",
    "dequantize_tokens",
    "empirical_bits",
    "encode_maps",
    "fit_frequencies",
    "item_gate",
    "quantize_tokens",
    "rate_named",
    "sent_channels",
    "unpack_gates",
]
