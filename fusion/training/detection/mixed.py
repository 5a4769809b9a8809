"""A detector's graph in int8, any of its blocks put back into float32.

The graph is quantised once; ranges are measured once. What is left in float is decided afterwards, by taking pairs of
quantisation out again, so that a ladder of mixed graphs costs no new calibration. Always in float: the last
convolution of every branch of the head, what decodes boxes and adds scores up after it (one scale over pixels and
probabilities would round the latter to zero), and the projection that makes the codec's symbols.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import onnx

from fusion.engines import Array
from fusion.training.int8 import OPERATORS, quantise
from fusion.training.onnx_file import restore_floats, store_exact_halves

_ALWAYS_FLOAT = re.compile(r"project\.|detector\.(classes|conditions)$|detector\.head\.(dfl\.|cv[23]\.\d+\.2\.)")
_BLOCK = re.compile(r"detector\.(?:layers\.(\d+)|head\.(cv[23])\.(\d+))\.")
_PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class MixedGraph:
    """The graph in `path` quantised with ranges from `readings`; `blocks` are its parts that may go back to float.

    A block is a layer of the network (`layer 4`), or a branch of the head on a level (`head cv2.0` tells boxes on the
    finest, `head cv3.2` classes on the coarsest). Raises `ModelError` when ONNX Runtime cannot quantise it.
    """

    def __init__(self, path: Path, scratch: Path, readings: Iterable[Mapping[str, Array]]) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        quantise(path, scratch / path.name, readings, kept=kept_in_float, float_biases=True)
        self._int8 = onnx.load(scratch / path.name)
        restore_floats(self._int8)
        whole = onnx.load(path)
        restore_floats(whole)
        self._whole = {node.name: node for node in whole.graph.node}
        self._floats = {tensor.name: tensor for tensor in whole.graph.initializer}
        made = {name for node in self._int8.graph.node if node.op_type in _PAIRS for name in node.output}
        self._quantised = {
            node.name: block_of(self._whole[node.name].input[1])
            for node in self._int8.graph.node
            if node.op_type in OPERATORS and made.issuperset(node.input[:2])
        }
        self.blocks = tuple(sorted(set(self._quantised.values()), key=_in_order))

    def write(self, out: Path, floats: Collection[str]) -> int:
        """Write the graph with the blocks `floats` in float32; returns how many operators compute in int8."""
        model = onnx.ModelProto()
        model.CopyFrom(self._int8)
        still = {name for name, block in self._quantised.items() if block not in floats}
        self._release(model, still)
        _sweep(model, self._floats)
        onnx.checker.check_model(model)
        onnx.save(model, str(out))
        store_exact_halves(out)
        return len(still)

    def _release(self, model: onnx.ModelProto, still: set[str]) -> None:
        """Let every operator but those in `still` read what it read before quantisation; what another operator shares
        with one of those stays rounded.
        """
        shared = {self._whole[name].input[0] for name in still}
        shared |= {name for operator in still for name in self._whole[operator].output}
        for node in model.graph.node:
            whole = self._whole.get(node.name)
            if whole is None or node.name in still:
                continue
            free = node.name in self._quantised
            for place, name in enumerate(whole.input):
                if free or name not in shared:
                    node.input[place] = name


def block_of(weight: str) -> str:
    """The block a weight belongs to, by its name in the graph."""
    found = _BLOCK.match(weight)
    if found is None:
        return "other"
    layer, branch, level = found.groups()
    return f"layer {layer}" if layer else f"head {branch}.{level}"


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Names of the operators that are never quantised."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type in OPERATORS and any(_ALWAYS_FLOAT.match(name) for name in node.input)
    ]


def _in_order(block: str) -> tuple[bool, int, str]:
    kind, _, number = block.partition(" ")
    return kind != "layer", int(number) if number.isdecimal() else 0, number


def _sweep(model: onnx.ModelProto, floats: Mapping[str, onnx.TensorProto]) -> None:
    """Drop what nothing reads any more, and add the float32 weights that are read again."""
    graph = model.graph
    used = {port.name for port in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output):
            kept.append(node)
            used |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {name: tensor for name, tensor in floats.items() if name not in tensors}
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used)
    del graph.value_info[:]
