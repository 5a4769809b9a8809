"""The ONNX operators that TensorRT's parser takes.

Source: onnx/onnx-tensorrt, docs/operators.md at commit 6d0ab7be324d02c7feb3a306b6fdbeae84f71ddc (TensorRT 8.5, operator
sets up to 17), every row marked Y. Later releases add to it and took none away. Its restrictions that touch a detector:
QuantizeLinear and DequantizeLinear with zero point 0 and of int8 only (so biases stay float), Resize by nearest
neighbour, Cast to int8.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip
    Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
    Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GRU HardSwish HardSigmoid Identity If ImageScaler
    InstanceNormalization IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool
    MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad
    ParametricSoftplus Pow PRelu QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RNN RoiAlign Round ScaledTanh Scan Scatter ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(_NAMES.split())
_PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def refused_by_tensorrt(graph: Path) -> list[str]:
    """What TensorRT's parser would not take of the graph in `graph`, one line each: operators it does not have, and
    quantisation with another zero point than 0 or of other than 8 signed bits.
    """
    model = onnx.load(str(graph))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {f"operator {node.op_type}" for node in model.graph.node if node.op_type not in OPERATORS}
    for node in model.graph.node:
        zero = constants.get(node.input[2]) if node.op_type in _PAIRS and len(node.input) > 2 else None
        if zero is not None and (zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any()):
            found.add(f"{node.op_type} that is not symmetric int8")
    return sorted(found)
