"""Large JSON tables are read an object at a time; whatever is no table is refused with its place."""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording.driving import json_table
from fusion.recording.driving.json_node import Node
from fusion.recording.driving.json_table import read_table

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=8)


@QUICK
@given(rows=ROWS, indent=st.none() | st.integers(0, 3), block=st.integers(1, 40))
def test_rows_come_back_however_the_file_is_cut_into_blocks(tmp_path, rows, indent, block):
    (tmp_path / "t.json").write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_table, "_BLOCK", block)
        assert list(read_table(tmp_path / "t.json")) == rows


@QUICK
@given(rows=ROWS.filter(bool), cut=st.integers(1, 200))
def test_a_table_that_is_cut_off_is_refused(tmp_path, rows, cut):
    whole = json.dumps(rows)
    (tmp_path / "t.json").write_text(whole[: -min(cut, len(whole))])
    with pytest.raises(RecordingError, match=r"t.json: character"):
        list(read_table(tmp_path / "t.json"))


@QUICK
@given(data=st.binary(max_size=200) | st.text(st.sampled_from('[]{},:"a1 '), max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_refused(tmp_path, data):
    (tmp_path / "t.json").write_bytes(data)
    with suppress(RecordingError):
        assert all(isinstance(row, dict) for row in read_table(tmp_path / "t.json"))


def test_memory_is_bounded_by_the_longest_object(tmp_path, monkeypatch):
    monkeypatch.setattr(json_table, "_LONGEST", 1000)
    monkeypatch.setattr(json_table, "_BLOCK", 100)
    (tmp_path / "t.json").write_text('[{"a": "' + "x" * 10_000)
    with pytest.raises(RecordingError, match="character 1: no whole object"):
        list(read_table(tmp_path / "t.json"))


@pytest.mark.parametrize("text", ["[{}" + "[" * 100_000, '[{"a":' + "[" * 100_000])
def test_deep_nesting_is_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(RecordingError, match=r"t.json: character"):
        list(read_table(tmp_path / "t.json"))


@QUICK
@given(value=VALUES)
def test_any_value_is_what_is_asked_for_or_named(value):
    node = Node(value, "file: record 7")
    asked = (node.text, node.number, node.elements, node.items, lambda: node.array(3), lambda: node["a"])
    for ask in asked:
        try:
            ask()
        except RecordingError as error:
            text = str(error)
        else:
            text = "file: record 7"
        assert text.startswith("file: record 7")
