"""Ledgers by name: `SCHEME:ARGUMENT` of the entry points `fusion.sinks`, or the bare path of a SQLite file."""

from __future__ import annotations

from importlib.metadata import entry_points

from cloud_node.ledger.protocol import Ledger, LedgerReader, Sink
from fusion.errors import ConfigError

ENTRY_POINTS = "fusion.sinks"

DRIVER = "+psycopg"
"""What SQLAlchemy's URLs may say after `postgresql`; it is the only driver here."""


def open_ledger(name: str, *, keep_evidence: bool = True) -> Ledger:
    """The ledger `name`, made if it is not there.

    Raises `ConfigError` for an unknown scheme, `SpoolError` for storage that cannot be opened.
    """
    sink, argument = _sink(name)
    return sink.open(argument, keep_evidence=keep_evidence)


def open_reader(name: str, *, upgrade: bool = False) -> LedgerReader:
    """A reader of the ledger `name`; raises as `open_ledger` does, and when there is no such ledger.

    One of an earlier version raises `OlderError`; with `upgrade` it is brought up to date, for good.
    """
    sink, argument = _sink(name)
    return sink.open_reader(argument, upgrade=True) if upgrade else sink.open_reader(argument)


def without_password(name: str) -> str:
    """`name` as it may be printed: of a URL the user, host and path, neither password nor parameters."""
    scheme, slashes, rest = name.partition("://")
    if not slashes:
        scheme, colon, _ = name.partition(":")
        return name if not colon or scheme == "sqlite" else f"{scheme}:..."
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}://{credentials.partition(':')[0]}{at}{place.partition('?')[0]}"


def _sink(name: str) -> tuple[Sink, str]:
    scheme, colon, argument = name.partition(":")
    if not colon:
        scheme, argument = "sqlite", name
    scheme = scheme.removesuffix(DRIVER)
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in found:
        known = ", ".join(sorted(found))
        raise ConfigError(f"ledger {without_password(name)!r}: no sink is called {scheme!r}; known: {known}")
    try:
        sink: Sink = found[scheme].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"ledger {without_password(name)!r}: {scheme} cannot be used here ({error}); install what it needs"
        ) from None
    return sink, argument
