"""An address that spans cannot go to is refused before anything starts, with what to give."""

import pytest
from pydantic import ValidationError

from fusion.tracing.settings import TraceSettings


@pytest.mark.parametrize(
    "endpoint", ["", "http://localhost:4318", "https://traces.example/v1/traces", "http://[::1]:4318", "http://h"]
)
def test_where_spans_go(endpoint: str) -> None:
    assert TraceSettings(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:4318", "grpc://h:4317", "http://", "http:///v1", "http://h:70000", "http://h:0", "http://h:x",
     "http://a b:4318", "http://[::1:4318"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="give http://HOST:PORT or https://HOST:PORT, the port from 1 to 65535"):
        TraceSettings(endpoint=endpoint)
