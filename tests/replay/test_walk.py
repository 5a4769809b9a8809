"""The walk of docs/replay.md, as it stands there: a new user learns what half the bandwidth would miss."""

import re
import shlex
from pathlib import Path

import pytest

from replay.cli import main

PAGE = Path(__file__).parents[2] / "docs/replay.md"


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    section = PAGE.read_text(encoding="utf-8").split("## What there is")[0]
    return [shlex.split(line)[1:] for line in re.findall(r"^\$ (replay .*)$", section, re.MULTILINE)]


@pytest.mark.timeout(400)
def test_the_walk_answers_its_question(
    commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    grid, compare = commands
    assert main(grid) == 0
    told = capsys.readouterr().out
    missed = {name: re.search(rf"^{name}: missed (\d+) of (\d+) defects", told, re.MULTILINE) for name in grid[2:4]}
    assert all(missed.values()), told
    assert {found[2] for found in missed.values() if found} == {"7"}
    sent = re.search(r"half-link: .*sent ([\d.]+)\sKB instead of ([\d.]+)\sKB", told, re.DOTALL)
    assert sent
    assert float(sent[1]) < float(sent[2])
    assert (tmp_path / "out/half/grid.html").stat().st_size > 10_000
    assert main(compare) == 1
    assert (tmp_path / "out/half/changes.html").stat().st_size > 10_000
