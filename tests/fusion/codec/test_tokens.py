import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fusion.codec import dequantize_tokens, quantize_tokens
from fusion.errors import EvidenceError, ModelError
from fusion.types import FusedTokens

values = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 9), st.integers(1, 16)), elements=st.floats(-50, 50, width=32)
)


@given(values)
@example(np.array([[5.597e-42]], np.float32))
def test_values_come_back_within_half_a_scale(array):
    tokens = quantize_tokens(array)
    assert tokens.values.dtype == np.int8
    assert float(np.float32(tokens.scale)) == tokens.scale
    assert np.abs(dequantize_tokens(tokens) - array).max(initial=0) <= tokens.scale * 0.5001


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e39])
def test_a_scale_that_cannot_be_is_refused(scale):
    with pytest.raises(EvidenceError, match="scale"):
        dequantize_tokens(FusedTokens(np.ones((2, 3), np.int8), scale))


def test_what_is_no_table_is_refused():
    with pytest.raises(EvidenceError, match="int8 table"):
        dequantize_tokens(FusedTokens(np.ones((2, 3), np.float32), 1.0))
    with pytest.raises(EvidenceError, match="int8 table"):
        dequantize_tokens(FusedTokens(np.ones(3, np.int8), 1.0))
    with pytest.raises(ModelError, match="finite"):
        quantize_tokens(np.array([[np.nan]], np.float32))
