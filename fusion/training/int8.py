"""Graphs in 8-bit integers: ONNX Runtime's static quantisation of matrix products and convolutions with weights.

Quantise and dequantise nodes (QDQ), a scale a channel for weights, ranges of activations from readings (Jacob et al.,
2018). Weights use seven of their eight bits: processors without VNNI or AMX add two products in 16 bits, which
saturates otherwise, and a graph should answer the same everywhere.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import onnx

from fusion.engines import Array
from fusion.errors import ModelError
from fusion.training.onnx_file import restore_floats, store_exact_halves

OPERATORS = ("MatMul", "Gemm", "Conv")
_READINGS = frozenset(
    {
        "points",
        "rays",
        "boxes",
        "box_rays",
        "class_scores",
        "condition_scores",
        "item_place",
        "item_points",
        "image_from_ego",
    }
)
_AGE, _SOUND = "_age", "pcm"
_ANSWERS = ("_logits", "box3d")
_VALUES = {"ScatterElements": (0, 2), "GatherElements": (0,), "Gather": (0,), "GatherND": (0,), "Where": (1, 2)}
"""Which inputs of these operators are values; the others say where to and whether."""
_YES_OR_NO = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not", "IsNaN"})


def quantise(
    graph: Path,
    out: Path,
    readings: Iterable[Mapping[str, Array]],
    *,
    kept: Callable[[onnx.ModelProto], list[str]] | None = None,
    float_biases: bool = False,
) -> int:
    """Write the graph in `graph` to `out` in int8; returns how many operators were quantised.

    `readings` are its inputs by name, from which ranges are taken. The operators that `kept` names (`kept_in_float`
    unless told) and what multiplies two activations stay in float32, and so do biases with `float_biases`: TensorRT's
    parser takes no others. Raises `ModelError` when ONNX Runtime cannot do it or there is nothing to quantise.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, rows: Iterator[Mapping[str, Array]]) -> None:
            self.rows = rows

        def get_next(self) -> dict[str, Array] | None:
            row = next(self.rows, None)
            return None if row is None else dict(row)

    model = onnx.load(graph)
    restore_floats(model)
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it advises a pass over the graph that these graphs do not need
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / graph.name
            onnx.save(model, str(whole))
            quantize_static(
                str(whole),
                str(out),
                Reader(iter(readings)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=(kept or kept_in_float)(model),
                extra_options={
                    "MatMulConstBOnly": True,
                    "ActivationSymmetric": True,
                    "QuantizeBias": not float_biases,
                },
            )
    except Exception as error:
        raise ModelError(
            f"{graph}: cannot be quantised ({error}); export it again, or use its float32 graph"
        ) from error
    finally:
        logging.getLogger().setLevel(before)
    store_exact_halves(out)
    return quantised(out)


def quantised(graph: Path) -> int:
    """How many matrix products and convolutions of the graph in `graph` read what was quantised."""
    model = onnx.load(graph)
    made = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return sum(node.op_type in OPERATORS and made.issuperset(node.input[:2]) for node in model.graph.node)


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Names of the matrix products and convolutions that stay in float32, because eight bits are too few for what they
    read or answer: the first to see a reading in metres, seconds or samples, what turns sound into a spectrum's
    logarithm, and the last before an answer.
    """
    ports = {port.name for port in model.graph.input}
    raw = {name for name in ports if name in _READINGS or name.endswith(_AGE)} | ({_SOUND} & ports)
    sound, logged = {_SOUND}, _before_logarithms(model)
    kept = _last_before_answers(model)
    for node in model.graph.node:
        values = {node.input[i] for i in _VALUES.get(node.op_type, range(len(node.input)))}
        reads_raw, reads_sound = bool(raw & values), bool(sound & values)
        if node.op_type in OPERATORS and (reads_raw or (reads_sound and logged & set(node.output))):
            kept.append(node.name)
        if reads_raw and node.op_type not in OPERATORS and node.op_type not in _YES_OR_NO:
            raw |= set(node.output)
        if reads_sound and node.op_type != "Log":
            sound |= set(node.output)
    return kept


def _last_before_answers(model: onnx.ModelProto) -> list[str]:
    wanted = {port.name for port in model.graph.output if port.name.endswith(_ANSWERS)}
    kept = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            if node.op_type in OPERATORS:
                kept.append(node.name)
            else:
                wanted |= set(node.input)
    return kept


def _before_logarithms(model: onnx.ModelProto) -> set[str]:
    """Names of all that a logarithm is made from."""
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type == "Log" or found & set(node.output):
            found |= set(node.input)
    return found
