"""The measured card of a profile: through the command, with the bundled yard models, on a few scenes."""

import json
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest

from fusion.cli import main
from fusion.codec import RATES
from fusion.simulation import Split
from fusion.simulation.scene_set import write_scene_set


def test_a_card_tells_what_each_rate_costs_and_is_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "yard"
    shutil.copytree(str(resources.files("fusion").joinpath("weights", "yard")), bundle)
    write_scene_set(tmp_path / "scenes", Split.TEST, 4, 950_000)
    before = json.loads((bundle / "card.json").read_text())
    before.pop("Evidence by rate, test", None)
    command = ["evaluate", "evidence", "--data", tmp_path / "scenes", "--weights", bundle, "--out", tmp_path / "out"]
    assert main([*map(str, command), "--threads", "1", "--card"]) == 0
    lines = capsys.readouterr().out.splitlines()
    items = int(lines[0].split()[-1])
    assert items > 0
    found = [re.match(r"(\w+) +([\d,]+) bytes median, ([\d,]+) p95; verdicts right ([\d.]+)", v) for v in lines[1:]]
    assert [match[1] for match in found] == [rate.name for rate in RATES]
    sizes = [int(match[2].replace(",", "")) for match in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert all(int(match[3].replace(",", "")) >= size for match, size in zip(found, sizes, strict=True))
    assert all(float(match[4]) * items == pytest.approx(round(float(match[4]) * items), abs=0.1) for match in found)
    card = json.loads((bundle / "card.json").read_text())
    told = card.pop("Evidence by rate, test")
    assert told["escalated items"] == str(items)
    assert [f"{name:<8} {line}" for name, line in told.items()][1:] == lines[1:]
    assert card == before
    assert "Evidence by rate, test" in (bundle / "card.md").read_text()
