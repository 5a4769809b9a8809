"""Ledgers by name, where what they need is missing."""

import pytest

from cloud_node.ledger import open_ledger, opening
from fusion.errors import ConfigError


class Point:
    name = "postgresql"

    def load(self):
        raise ModuleNotFoundError("No module named 'psycopg'")


def test_a_database_whose_driver_is_missing_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(opening, "entry_points", lambda **_: [Point()])
    with pytest.raises(ConfigError, match=r"postgresql://me@host/db'.*No module named 'psycopg'.*install") as told:
        open_ledger("postgresql://me:secret@host/db")
    assert "secret" not in str(told.value)
