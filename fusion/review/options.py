"""The options behind the `?` of a reviewer's name."""

from __future__ import annotations


def read_options(text: str) -> dict[str, str]:
    """`NAME=VALUE&NAME=VALUE` as it stands: unlike in a URL, `+` and `%` of a path mean themselves."""
    parts = (part.partition("=") for part in text.split("&") if part)
    return {name: value for name, _, value in parts}
