"""What a daemon tells over HTTP at one moment."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from fusion.errors import ConfigError, ProtocolError, UnavailableError

PREFIX = "fusion_edge_"
_TIMEOUT_S = 5.0
Labels = tuple[tuple[str, str], ...]
Buckets = tuple[tuple[float, float], ...]
"""(upper bound in seconds, how many were at most that), by rising bound."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of `/metrics` and `/healthz`. `values` are by name without prefix and by labels; `at_s` is when."""

    at_s: float
    values: Mapping[str, Mapping[Labels, float]]
    health: Mapping[str, Any] = field(default_factory=dict)

    def value(self, name: str, **labels: str) -> float | None:
        """One value, None where it is not told."""
        return self.values.get(name, {}).get(tuple(sorted(labels.items())))

    def total(self, name: str) -> float | None:
        """The sum over all labels, None where nothing is told."""
        found = self.values.get(name)
        return sum(found.values()) if found else None

    def buckets(self, name: str) -> Buckets:
        """The cumulative buckets of a histogram; empty where it is not told."""
        found = self.values.get(f"{name}_bucket", {})
        return tuple(sorted((float(dict(labels)["le"]), count) for labels, count in found.items()))


def scrape(url: str, now_s: float) -> Scrape:
    """Ask the daemon at `url`. Raises `UnavailableError` when it is not there, `ProtocolError` for something else."""
    text = _get(url, "/metrics")
    try:
        values: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                if sample.name.startswith(PREFIX):
                    labels = tuple(sorted(sample.labels.items()))
                    values.setdefault(sample.name.removeprefix(PREFIX), {})[labels] = float(sample.value)
        health = json.loads(_get(url, "/healthz"))
    except ValueError as error:
        raise ProtocolError(f"{url}: does not answer as an edge daemon does ({error})") from None
    if not values or not isinstance(health, dict):
        raise ProtocolError(f"{url}: no edge daemon's metrics there; give the address of metrics.listen")
    return Scrape(now_s, values, health)


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value below which `share` of the counted lie, by straight lines within a bucket; None where nothing counts.

    Beyond the last bound it is that bound: the histogram tells no more.
    """
    total = buckets[-1][1] if buckets else 0
    if total <= 0:
        return None
    rank, low, below = share * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / max(count - below, 1e-12)
        low, below = bound, count
    return low


def between(now: Buckets, before: Buckets) -> Buckets:
    """What was counted since `before`; all of `now` where the daemon has started anew."""
    earlier = dict(before)
    since = tuple((bound, count - earlier.get(bound, 0.0)) for bound, count in now)
    return now if any(count < 0 for _, count in since) else since


def rate(scrapes: Sequence[Scrape], name: str) -> float | None:
    """Events a second from the first of `scrapes` to the last; None for one alone, or after a new start."""
    if len(scrapes) < 2 or scrapes[-1].at_s <= scrapes[0].at_s:
        return None
    first, last = scrapes[0].total(name), scrapes[-1].total(name)
    if last is None:
        return None
    gained = last - (first or 0.0)
    return gained / (scrapes[-1].at_s - scrapes[0].at_s) if gained >= 0 else None


def check_url(url: str) -> str:
    """`url` without an end of its path. Raises `ConfigError` for one that is not http://HOST:PORT."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "http" and parts.hostname and (parts.port or 80) and parts.path in {"", "/", "/metrics"}
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(f"--url {url}: give the daemon's metrics.listen as http://HOST:PORT")
    return f"http://{parts.netloc}"


def _get(url: str, path: str) -> bytes:
    parts = urlsplit(url)
    assert parts.hostname
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        raise UnavailableError(f"{url}: {reason}; is the daemon running with metrics.listen set?") from None
    finally:
        connection.close()
    if answer.status != 200 and not (path == "/healthz" and answer.status == 503):
        raise ProtocolError(f"{url}{path}: {answer.status}: {body.decode(errors='replace').strip()[:120]}")
    return body
