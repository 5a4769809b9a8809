"""Daemons that end with their test."""

from __future__ import annotations

import pytest

from .edge_process import Process


@pytest.fixture
def start(tmp_path):
    """Start `Process`; what still runs in the end is killed."""
    started: list[Process] = []

    def begin(source: str, **more: str) -> Process:
        started.append(Process(tmp_path, source, **more))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
