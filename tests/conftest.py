"""What runs beside what: the tests of a group run in one process, so that what they share is made once.

No example of a property has a time limit: how long one takes says how busy the machine is.
"""

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TOGETHER = ("tests/fusion/training/detection", "tests/replay/compare", "tests/fusion/training/graphs")
"""Rooms whose tests share what takes long to make; elsewhere a module's do. They are begun first."""


class ByGroup(LoadScopeScheduling):
    """Hands a group's tests to one worker, groups in the order they were collected in.

    xdist's own `loadgroup` writes groups into the tests' ids, which pytest 9.2 does not let it: it then spreads
    every test for itself and says nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those first that take longest."""
    items.sort(key=lambda item: _group(item.nodeid) not in TOGETHER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGroup:
    """Whatever `--dist` says, groups stay together."""
    config.option.loadscopereorder = False
    return ByGroup(config, log)


def _group(nodeid: str) -> str:
    module = nodeid.partition("::")[0]
    return next((room for room in TOGETHER if module.startswith(room)), module)
