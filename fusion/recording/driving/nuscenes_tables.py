"""The rows of nuScenes' tables that belong to one scene, picked while the tables are read in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import RecordingError
from fusion.recording.driving.json_node import Node
from fusion.recording.driving.json_table import read_table

SCENES = "scene"


@dataclass(frozen=True, slots=True, eq=False)
class SceneTables:
    """Rows by token. `name` is the scene's; of tables that hold all scenes there is only what this one refers to."""

    name: str
    folder: Path
    samples: Mapping[str, Node]
    data: Mapping[str, Node]
    calibrations: Mapping[str, Node]
    sensors: Mapping[str, Node]
    poses: Mapping[str, Node]
    annotations: Mapping[str, Node]
    instances: Mapping[str, Node]
    categories: Mapping[str, Node]
    attributes: Mapping[str, Node]
    visibilities: Mapping[str, Node]

    def facts(self) -> str:
        """All of it as text, the same for the same rows."""
        tables = [self.samples, self.data, self.calibrations, self.sensors, self.poses, self.annotations]
        tables += [self.instances, self.categories, self.attributes, self.visibilities]
        return json.dumps([[row.value for row in table.values()] for table in tables], sort_keys=True)

    def find(self, table: Mapping[str, Node], token: Node) -> Node:
        """The row that `token` refers to; raises `RecordingError` when there is none."""
        row = table.get(token.text())
        if row is None:
            raise RecordingError(f"{token.place}: refers to {token.text()!r}, which is in no table of {self.folder}")
        return row


def scene_names(folder: Path) -> list[str]:
    """The scenes of a folder of tables, in order."""
    return [row["name"].text() for row in _rows(folder, SCENES).values()]


def read_scene(folder: Path, name: str) -> SceneTables:
    """The rows of the scene called `name`. Raises `RecordingError` naming file and record."""
    scenes = {row["name"].text(): token for token, row in _rows(folder, SCENES).items()}
    scene = scenes[name]
    samples = _rows(folder, "sample", "scene_token", {scene})
    data = _rows(folder, "sample_data", "sample_token", samples)
    annotations = _rows(folder, "sample_annotation", "sample_token", samples)
    return SceneTables(
        name=name,
        folder=folder,
        samples=samples,
        data=data,
        calibrations=_rows(folder, "calibrated_sensor", "token", _texts(data, "calibrated_sensor_token")),
        sensors=_rows(folder, "sensor"),
        poses=_rows(folder, "ego_pose", "token", _texts(data, "ego_pose_token")),
        annotations=annotations,
        instances=_rows(folder, "instance", "token", _texts(annotations, "instance_token")),
        categories=_rows(folder, "category"),
        attributes=_rows(folder, "attribute"),
        visibilities=_rows(folder, "visibility"),
    )


def _texts(rows: Mapping[str, Node], key: str) -> set[str]:
    return {row[key].text() for row in rows.values()}


def _rows(folder: Path, table: str, key: str = "", wanted: Collection[str] = ()) -> dict[str, Node]:
    """The rows of a table by token, of those whose `key` (all, without one) is among `wanted`."""
    path = folder / f"{table}.json"
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; nuScenes' tables are all needed")
    keep: Callable[[Node], bool] = (lambda row: row[key].text() in wanted) if key else (lambda _: True)
    found = {}
    for number, value in enumerate(read_table(path)):
        row = Node(value, f"{path}: record {number}")
        if keep(row):
            found[row["token"].text()] = row
    return found
