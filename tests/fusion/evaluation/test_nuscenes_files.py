"""nuScenes files: both forms, every field checked, and a mistake named by sample, box and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.evaluation.nuscenes_boxes import ATTRIBUTES, CLASSES
from fusion.evaluation.nuscenes_files import read_bike_racks, read_ego_positions, read_nuscenes_boxes

BOX: dict[str, Any] = {
    "sample_token": "a1",
    "translation": [952.8, 570.6, 0.65],
    "size": [0.7, 0.8, 1.5],
    "rotation": [0.66, 0.0, 0.0, -0.75],
    "velocity": [-0.1, float("nan")],
    "ego_translation": [45.4, 8.3, 0.65],
    "num_pts": 9,
    "detection_name": "pedestrian",
    "detection_score": 0.5,
    "attribute_name": "pedestrian.standing",
}
WITHOUT = {"ego_translation", "num_pts", "attribute_name", "detection_score"}


def written(folder: Path, content: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    boxes = {"a1": [BOX, {k: v for k, v in BOX.items() if k not in WITHOUT}], "b2": []}
    for content in (boxes, {"meta": {"use_lidar": True}, "results": boxes}):
        read = read_nuscenes_boxes(written(tmp_path, content))
        assert read.samples == ("a1", "b2")
        assert read.sample.tolist() == [0, 0]
        assert [CLASSES[i] for i in read.label] == ["pedestrian", "pedestrian"]
        assert [ATTRIBUTES[i] for i in read.attribute] == ["pedestrian.standing", ""]
        np.testing.assert_array_equal(read.translation[0], BOX["translation"])
        np.testing.assert_array_equal(read.size[0], BOX["size"])
        np.testing.assert_array_equal(read.rotation[1], BOX["rotation"])
        np.testing.assert_array_equal(read.velocity[0], BOX["velocity"])
        assert read.points.tolist() == [9, -1]
        assert read.score[0] == 0.5
        assert np.isnan(read.score[1])
        assert np.isnan(read.ego_translation[1]).all()
    assert len(read_nuscenes_boxes(written(tmp_path, {}))) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": [1, 2]}, r"'size' is \[1, 2\]; 3 numbers above 0 must be there"),
        ({"size": [1, 0, 2]}, r"'size' is \[1, 0, 2\]; 3 numbers above 0"),
        ({"translation": ["1", "2", "3"]}, "'translation' is .*; 3 numbers must be there"),
        ({"translation": [1, 2, float("nan")]}, "'translation' is .*; 3 numbers"),
        ({"translation": [1, True, 3]}, "'translation' is .*; 3 numbers"),
        ({"translation": 5}, "'translation' is 5; 3 numbers"),
        ({"translation": None}, "'translation' is None; 3 numbers"),
        ({"velocity": [1, float("inf")]}, "'velocity' is .*; 2 numbers"),
        ({"rotation": [0, 0, 0, 0]}, "'rotation' is .*; a quaternion that turns must be there"),
        ({"detection_score": True}, "'detection_score' is True; a number must be there"),
        ({"detection_name": "tram"}, "'detection_name' is 'tram'; one of car, truck"),
        ({"detection_name": ["car"]}, r"'detection_name' is \['car'\]; one of car"),
        ({"attribute_name": "flying"}, "'attribute_name' is 'flying'; one of pedestrian.moving"),
        ({"num_pts": "many"}, "'num_pts' is 'many'; a number must be there"),
        ({"sample_token": "b2"}, "says that it is of sample 'b2'"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = written(tmp_path, {"zero": [], "a1": [BOX, {**BOX, **change}, BOX]})
    with pytest.raises(InputError, match=rf"boxes.json: sample a1, box 1.*{said}"):
        read_nuscenes_boxes(path)


@pytest.mark.parametrize("field", sorted(BOX.keys() - WITHOUT - {"sample_token"}))
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = written(tmp_path, {"a1": [{k: v for k, v in BOX.items() if k != field}]})
    with pytest.raises(InputError, match=f"sample a1, box 0: '{field}' is missing"):
        read_nuscenes_boxes(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no valid JSON"),
        ('{"a1": [], "b2": [], "a1": []}', "no valid JSON .'a1' is there twice"),
        ("[" * 100_000, "no valid JSON"),
        ([], "holds no object of sample tokens"),
        ({"meta": {}}, "a submission keeps its boxes under 'results'"),
        ({"meta": {}, "results": []}, "a submission keeps its boxes under 'results'"),
        ({"a1": 3}, "sample a1: 3 is no list of boxes"),
        ({"a1": [3]}, "sample a1, box 0: 3 is no box"),
    ],
)
def test_another_document_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_nuscenes_boxes(written(tmp_path, content))
    with pytest.raises(InputError, match=r"missing\.json: cannot be read"):
        read_nuscenes_boxes(tmp_path / "missing.json")


def test_racks_and_positions(tmp_path: Path) -> None:
    racks = read_bike_racks(written(tmp_path, {"a1": [BOX, BOX], "b2": [{**BOX, "sample_token": "b2"}]}))
    assert racks.samples == ("a1", "a1", "b2")
    assert racks.translation.shape == racks.size.shape == (3, 3)
    assert racks.rotation.shape == (3, 4)
    positions = read_ego_positions(written(tmp_path, {"a1": [1, 2, 3]}))
    assert positions["a1"].tolist() == [1, 2, 3]
    for wrong in ([1, 2], None, [1, 2, float("nan")], "here"):
        with pytest.raises(InputError, match=r"sample a1: .* is no position of three numbers"):
            read_ego_positions(written(tmp_path, {"a1": wrong}))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(BOX)), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(sorted(BOX)), value=anything, cut=st.integers(0, 400), noise=st.binary(max_size=8))
def test_anything_is_read_or_refused(tmp_path: Path, field: str, value: Any, cut: int, noise: bytes) -> None:
    path = tmp_path / "any.json"
    text = json.dumps({"a1": [{**BOX, field: value}], "b2": value}).encode()
    for content in (
        text,
        text[:cut],
        text[:cut] + noise + text[cut:],
        json.dumps({"a1": [{**BOX, field: value}]}).encode(),
    ):
        path.write_bytes(content)
        said = f"{path} is sound"
        try:
            read_nuscenes_boxes(path)
        except InputError as error:
            said = str(error)
        assert str(path) in said
        assert "\n" not in said
