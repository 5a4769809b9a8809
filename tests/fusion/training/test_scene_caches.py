"""Features of scenes are made again when what they were made of is not what it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import RecordingError
from fusion.perception.detector import DetectorResult
from fusion.simulation import scene_set
from fusion.simulation.sample import SimulatedSample
from fusion.task import Task
from fusion.training import disturbance, scene_features
from fusion.training.disturbance import Disturbance, disturbed_cache
from fusion.training.scene_features import FeatureCache, cache_features

FILES = ("truth/a.json", "images/b.jpg", "lidar/a.npy", "audio/b.npy")


@pytest.fixture
def made(
    first_scene: tuple[SimulatedSample, DetectorResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], tuple[FeatureCache, FeatureCache]], list[str]]:
    """What caches two scenes, as they are and with a late sweep, and the stems that were read for it."""
    sample, found = first_scene
    read: list[str] = []

    class Stage:
        def __init__(self, *_: object) -> None:
            pass

        def run(self, _: object) -> DetectorResult:
            return found

    def read_scene(_: Path, stem: str) -> SimulatedSample:
        read.append(stem)
        return sample

    for module in (scene_features, disturbance):
        monkeypatch.setattr(module, "load_engine", lambda *_, **__: None)
        monkeypatch.setattr(module, "DetectorStage", Stage)
    monkeypatch.setattr(scene_set, "read_scene", read_scene)
    monkeypatch.setattr(disturbance, "read_scene", read_scene)
    synthetic_profile(task="yard", image_width=128, image_height=64, channels=(4, 4, 4)).save(tmp_path / "bundle")
    scenes = tmp_path / "scenes"
    for part, ending in (("truth", "json"), ("images", "jpg"), ("lidar", "npy"), ("audio", "npy")):
        (scenes / part).mkdir(parents=True)
        for stem in ("a", "b"):
            (scenes / part / f"{stem}.{ending}").write_text("first")
    (scenes / "test.txt").write_text("a\nb\n")

    def make() -> tuple[FeatureCache, FeatureCache]:
        task, bundle, how = Task.load("yard"), tmp_path / "bundle", Disturbance("lidar", 0.2)
        calm = cache_features(scenes, tmp_path / "calm", task, bundle, split="test", threads=1)
        return calm, disturbed_cache(how, scenes, calm, tmp_path / "late", task, bundle, threads=1)

    return make, read


def test_scenes_made_anew_are_read_anew(made: tuple[Callable[[], object], list[str]], tmp_path: Path) -> None:
    make, read = made
    for _ in range(2):
        make()
        assert read == ["a", "b"] * 2
    for number, name in enumerate(FILES):
        (tmp_path / "scenes" / name).write_text("second time" if name.startswith("truth") else "longer than before")
        make()
        make()
        assert len(read) == 4 * (number + 2), name
    (tmp_path / "scenes" / FILES[2]).unlink()
    with pytest.raises(RecordingError, match=r"lidar/a\.npy: cannot be read"):
        make()


@pytest.mark.parametrize("folder", ["calm", "late"])
def test_a_cache_of_an_older_format_is_made_again(
    folder: str, made: tuple[Callable[[], object], list[str]], tmp_path: Path
) -> None:
    make, read = made
    make()
    meta = tmp_path / folder / scene_features.META_NAME
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": scene_features.FORMAT - 1}))
    make()
    assert len(read) == 6
