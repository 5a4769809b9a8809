"""What the files of both nodes may say of addresses and times."""

from __future__ import annotations

import math

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


TIMES = [
    "screening.repeat_s", "screening.onset_s", "tracker.max_age_s", "uplink.deadline_s", "uplink.report_s",
    "synchronizer.late_ms", "synchronizer.ahead_ms", "power.react_s", "power.recover_s", "drain.grace_s",
    "metrics.stalled_s", "source.drop_late_s",
]  # fmt: skip


@pytest.mark.parametrize("key", TIMES)
@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_a_time_that_cannot_be_counted_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"--set {key}={value}: '{key}' = "):
        from_overrides(EdgeSettings, [PATH, f"{key}={value}"])


def test_only_a_recording_may_be_played_infinitely_fast():
    assert from_overrides(EdgeSettings, [PATH]).source.pace == math.inf
    assert from_overrides(EdgeSettings, [PATH, "source.pace=inf"]).source.pace == math.inf
    with pytest.raises(ConfigError, match=r"'drain_seconds' = inf"):
        from_overrides(CloudSettings, ["drain_seconds=inf"])


@pytest.mark.parametrize("listen", ["a..b:0", f"{'x' * 64}:0", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_listened_on_is_one_line(listen):
    with pytest.raises(UnavailableError, match=r"metrics\.listen: cannot listen on .*; choose another address"):
        MetricsServer(listen, Metrics(), lambda: None, lambda: (True, {}))
