"""What runs beside what: the tests of a group run in one process, so that what they share is made once.

No example of a property has a time limit: how long one takes says how busy the machine is.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parent
TOGETHER = ("fusion/training/detection", "replay/compare")
"""Rooms whose tests share what takes long to make; elsewhere a module's do. They are begun first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group, and put those first that take longest."""
    groups = {item: _group(item.path.relative_to(ROOT).as_posix()) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: groups[item] not in TOGETHER)


def _group(path: str) -> str:
    return next((room for room in TOGETHER if path.startswith(room)), path)
