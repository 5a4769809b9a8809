"""What is bundled: complete, small, with cards, and exactly what its digests say."""

import hashlib
import json
from pathlib import Path

import pytest

import fusion
from fusion.codec import Profile
from fusion.task import tasks_with_weights

ROOT = Path(fusion.__file__).parent
MIB = 1 << 20


@pytest.mark.parametrize("task", tasks_with_weights())
def test_a_bundle_is_what_its_digests_say(task: str) -> None:
    folder = ROOT / "weights" / task
    listed = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        listed[name] = digest
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert set(listed) == there
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("task", tasks_with_weights())
def test_a_bundle_has_its_card_and_fits_together(task: str) -> None:
    folder = ROOT / "weights" / task
    card = json.loads((folder / "card.json").read_text())
    assert card["Recipe"].get("made by", card["Recipe"]["command"]).startswith(("fusion train", "fusion distill"))
    assert 0 < card["Metrics"]["map50"] <= 1
    profile = Profile.load(folder)
    profile.check_trunk(folder / "detector.onnx")
    assert card["Fingerprint"]["profile_sha256"] == profile.sha256


def test_no_weights_are_bundled_of_data_for_non_commercial_use() -> None:
    assert tasks_with_weights() == ["pcb", "yard"]
    assert not [name for name in ("kitti", "nuscenes") if (ROOT / "weights" / name).exists()]


def test_weights_and_recordings_stay_under_40_mb() -> None:
    files = [p for part in ("weights", "recordings") for p in (ROOT / part).rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 40_000_000
    assert not [p for p in files if p.suffix in {".pt", ".pth", ".pkl", ".bin"}]
