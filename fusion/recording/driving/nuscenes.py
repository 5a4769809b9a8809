"""nuScenes: a scene of the data set's tables, or keyframes told by one `info.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from fusion.errors import RecordingError
from fusion.recording.content import check_task
from fusion.recording.driving.dataset import Dataset, DatasetReader, Report, refuse
from fusion.recording.driving.nuscenes_keyframe import INFO, plan_keyframes
from fusion.recording.driving.nuscenes_scene import plan_scene
from fusion.recording.driving.nuscenes_tables import read_scene, scene_names
from fusion.task import Task

_VERSIONS = "v1.0-*"
_TABLE = "sample_data.json"
_SHOWN = 12


class NuScenesReader(DatasetReader):
    """The data set's root (tables in `v1.0-*/`, files in `samples/` and `sweeps/`), such a folder of tables, or a
    folder with `info.json`.

    Of tables one scene is read, named by the split (`scene-0061`), which may be left out where there is only one.
    Sensors are `lidar-top` and the cameras, `cam-front` and so on, with their own times: a sweep's is that of its end,
    a picture's that of its exposure. Without a folder `sweeps/`, keyframes alone are read. Truth is of the keyframes:
    boxes in the ego frame of the sweep's time, the detection task's class names with dashes (`traffic-cone`), velocity
    over ground, the attribute as `condition` (`moving`). A picture's boxes are not told, for there are six pictures.
    Keyframes of an `info.json` do not follow each other: `continuous` is False.
    """

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder with `v1.0-*/sample_data.json` or `sample_data.json` in it, or with an `info.json` of nuScenes."""
        return bool(_table_folders(path)) or _has_info(path)

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open a scene or keyframes; raises `RecordingError` naming the file and record that is missing or wrong."""
        problems: list[str] = []
        report = problems.append if salvage else refuse
        folders = _table_folders(path)
        if folders:
            dataset = _scene(path, folders, split, problems, report)
        elif split is not None:
            raise RecordingError(f"{path}: keyframes have no splits; leave out '{split}'")
        else:
            dataset = plan_keyframes(path, problems, report)
        check_task(path, dataset.sources, task)
        return cls(dataset, salvage=salvage)


def _table_folders(path: Path) -> list[Path]:
    return [folder for folder in (path, *sorted(path.glob(_VERSIONS))) if (folder / _TABLE).is_file()]


def _has_info(path: Path) -> bool:
    try:
        with (path / INFO).open("rb") as file:
            return b"nuscenes" in file.read(1 << 16)
    except OSError:
        return False


def _scene(path: Path, folders: list[Path], split: str | None, problems: list[str], report: Report) -> Dataset:
    found = {name: folder for folder in reversed(folders) for name in scene_names(folder)}
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split not in found:
        names = sorted(found)
        known = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        asked = f"no scene '{split}' in it" if split else "several scenes; give one as the split"
        raise RecordingError(f"{path}: {asked}; there are: {known or 'none'}")
    folder = found[split]
    root = path.parent if folder == path else path
    return plan_scene(root, read_scene(folder, split), problems, report)
