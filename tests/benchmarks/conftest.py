"""The parts of benchmarks that lie in rooms beside the scripts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def crowd() -> SimpleNamespace:
    """Modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        from crowd import arithmetic, demand, report, settings, simulation

    return SimpleNamespace(
        arithmetic=arithmetic, demand=demand, report=report, settings=settings, simulation=simulation
    )


@pytest.fixture(scope="session")
def adaptation() -> SimpleNamespace:
    """Modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        from adaptation import dispatch, methods, report

    return SimpleNamespace(dispatch=dispatch, methods=methods, report=report)


@pytest.fixture(scope="session")
def rivals() -> SimpleNamespace:
    """Modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        from rivals import books, schedule

    return SimpleNamespace(books=books, schedule=schedule)
