"""The command line's words about sources: which stretch, which topics, where copies go, what damage is borne."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fusion.errors import ConfigError

CACHE_BYTES = 20_000_000_000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Moment:
    """A bound of a stretch: `seconds` after the first reading, or `unix_ns`, nanoseconds since 1970."""

    seconds: float = 0.0
    unix_ns: int | None = None

    @classmethod
    def read(cls, option: str, text: str) -> Moment:
        """Seconds, or a time of ISO 8601, UTC where it names no zone. Raises `ConfigError`."""
        try:
            seconds = float(text)
        except ValueError:
            return cls(unix_ns=_unix_ns(option, text))
        if not 0 <= seconds < float("inf"):
            raise ConfigError(f"{option} {text}: seconds after the first reading are 0 or more")
        return cls(seconds)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read. `mapping` are `SENSOR=TOPIC` texts; `shard_s` cuts recordings in jobs of that length."""

    split: str = ""
    begin: Moment = Moment()
    end: Moment | None = None
    shard_s: float = 0.0
    mapping: tuple[str, ...] = ()
    salvage: bool = False
    cache: str = ""
    cache_bytes: int = CACHE_BYTES

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> SourceOptions:
        """From what `add_source_options` took. Raises `ConfigError`."""
        if arguments.shard is not None and not 0 < arguments.shard < float("inf"):
            raise ConfigError(f"--shard {arguments.shard:g}: a length in seconds is more than 0")
        begin = Moment.read("--from", arguments.from_time) if arguments.from_time else Moment()
        end = Moment.read("--to", arguments.to_time) if arguments.to_time else None
        both_seconds = end is not None and begin.unix_ns is None and end.unix_ns is None
        if end is not None and both_seconds and end.seconds <= begin.seconds:
            raise ConfigError(f"--to {end.seconds:g} is not after --from {begin.seconds:g}")
        return cls(
            arguments.split, begin, end, arguments.shard or 0.0, tuple(arguments.mapping), arguments.salvage,
            str(arguments.cache or ""), read_bytes(arguments.cache_bytes),
        )  # fmt: skip


def refuse_source_options(arguments: argparse.Namespace, why: str) -> None:
    """Raise `ConfigError` for what was told about sources where it would change nothing."""
    told = {
        "--split": arguments.split, "--from": arguments.from_time, "--to": arguments.to_time,
        "--shard": arguments.shard is not None, "--map": arguments.mapping, "--salvage": arguments.salvage,
    }  # fmt: skip
    for option, given in told.items():
        if given:
            raise ConfigError(f"{option}: {why}; leave it out")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The options of a command that takes SOURCEs."""
    parser.add_argument(
        "--split", default="", help="of a folder with splits: which; of labelled pictures, default test"
    )
    parser.add_argument("--from", dest="from_time", metavar="S", help="seconds from the first reading, or an ISO time")
    parser.add_argument("--to", dest="to_time", metavar="S", help="up to, but without; as --from")
    parser.add_argument("--shard", type=float, metavar="SECONDS", help="cut recordings in jobs of that length")
    parser.add_argument(
        "--map", dest="mapping", action="append", default=[], metavar="SENSOR=TOPIC", help="what the task's sensor is"
    )
    parser.add_argument("--salvage", action="store_true", help="take what is sound of damaged recordings; exit 8 then")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where copies of remote recordings are kept")
    parser.add_argument("--cache-bytes", default="20GB", metavar="N", help="how large it may be (20GB)")


def read_bytes(text: str) -> int:
    """`20GB`, `500M`, `1000`. Raises `ConfigError`."""
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--cache-bytes {text}: give a number of bytes, as 20GB or 500M")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def default_cache() -> Path:
    """Where the user's caches are (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusion-stack" / "recordings"


def _unix_ns(option: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: neither seconds nor a time as 2026-03-01T12:30:00Z") from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
