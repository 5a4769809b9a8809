"""What the files of both nodes may say of addresses and times."""

from __future__ import annotations

import pytest

from cloud_node.config import CloudSettings
from edge_node.config import EdgeSettings
from edge_node.metrics import Metrics, MetricsServer
from fusion.config import from_overrides
from fusion.errors import ConfigError, UnavailableError

PATH = "source.path=yard.mcap"


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (EdgeSettings, "uplink.address"),
        (EdgeSettings, "metrics.listen"),
        (CloudSettings, "listen"),
        (CloudSettings, "metrics"),
        (CloudSettings, "console.listen"),
    ],
)
def test_a_port_that_cannot_be_is_refused_by_both_nodes(model, key):
    sets = [PATH] if model is EdgeSettings else []
    with pytest.raises(ConfigError, match=f"'{key}' = '127.0.0.1:99999': give HOST:PORT, the port from 0 to 65535"):
        from_overrides(model, [*sets, f"{key}=127.0.0.1:99999"])
    from_overrides(model, [*sets, f"{key}=127.0.0.1:65535"])


@pytest.mark.parametrize("listen", ["a..b:0", f"{'x' * 64}:0", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_listened_on_is_one_line(listen):
    with pytest.raises(UnavailableError, match=r"metrics\.listen: cannot listen on .*; choose another address"):
        MetricsServer(listen, Metrics(), lambda: None, lambda: (True, {}))
