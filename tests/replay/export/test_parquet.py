"""The tables, read back with pyarrow and polars, say what the run says."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion.errors import InputError
from fusion.types import Box3D
from replay.cli import main
from replay.export.parquet import tables
from replay.export.parquet.columns import TABLES

DOCS = Path(__file__).parents[3] / "docs" / "replay" / "export.md"


@pytest.fixture
def boxed(draw, drawn_run):
    """The drawn run with a fused box for each item."""
    items = tuple(replace(item, box3d=item.truth.box3d, tokens_bytes=200) for item in drawn_run.items)
    return draw.changed(drawn_run, items=items)


def write(run, out):
    return {path.stem: path for path in tables.export(run, {}, out).files}


def test_every_table_has_its_columns_with_their_meaning(boxed, tmp_path):
    files = write(boxed, tmp_path)
    assert files.keys() == TABLES.keys()
    for name, path in files.items():
        found = pq.read_schema(path)
        assert found.names == [column.name for column in TABLES[name]]
        assert all(field.metadata[b"meaning"] for field in found)
        assert found.metadata[b"task"] == b"yard"


def test_items_are_those_of_the_run(boxed, tmp_path):
    table = pl.read_parquet(write(boxed, tmp_path)["items"])
    assert table["item"].to_list() == [item.id for item in boxed.items]
    assert table["x2"].to_list() == [item.box.x2 for item in boxed.items]
    assert table["box_yaw"].to_list() == [item.box3d.yaw for item in boxed.items]
    assert table["state"].to_list() == [item.state.value for item in boxed.items]
    assert table["reasons"].to_list() == [list(item.reasons) for item in boxed.items]
    assert table.filter(pl.col("evidence_bytes") > 0).height == sum(i.evidence_bytes > 0 for i in boxed.items)


def test_words_are_stored_once_and_maps_are_maps(boxed, tmp_path):
    schema = pq.read_schema(write(boxed, tmp_path)["verdicts"])
    assert pa.types.is_dictionary(schema.field("slot").type)
    assert pa.types.is_map(schema.field("probabilities").type)


def test_a_verdict_is_a_row_a_slot(boxed, tmp_path):
    table = pl.read_parquet(write(boxed, tmp_path)["verdicts"])
    reviewed = [item for item in boxed.items if item.verdict]
    assert table.height == len(reviewed) * len(boxed.task.slots)
    right = table.filter(pl.col("slot") == "condition")["right"].mean()
    share = sum(i.verdict["condition"].option == i.truth_answers["condition"] for i in reviewed) / len(reviewed)
    assert right == pytest.approx(share)
    for row in pq.read_table(tmp_path / "parquet" / "verdicts.parquet").to_pylist():
        shares = dict(row["probabilities"])
        assert shares[row["option"]] == row["confidence"]
        assert sum(shares.values()) == pytest.approx(1)


def test_lanes_add_up_to_what_was_sent(boxed, tmp_path):
    files = write(boxed, tmp_path)
    lanes = pl.read_parquet(files["bytes"]).filter(pl.col("lane") != "pixels").group_by("item").agg(pl.sum("bytes"))
    items = pl.read_parquet(files["items"]).filter(pl.col("evidence_bytes") > 0)
    joined = items.join(lanes, on="item")
    assert joined.height == items.height > 0
    assert (joined["bytes"] == joined["evidence_bytes"]).all()


def test_a_time_of_day_is_one_only_where_it_is_real(boxed, draw, tmp_path):
    nominal = pl.read_parquet(write(boxed, tmp_path)["samples"])
    assert nominal["time"].null_count() == nominal.height
    start = 1_700_000_000_123_456_789
    samples = tuple(replace(sample, time_ns=sample.time_ns + start) for sample in boxed.samples)
    real = pl.read_parquet(write(draw.changed(boxed, samples=samples), tmp_path / "real")["samples"])
    assert real.schema["time"] == pl.Datetime("ns", "UTC")
    assert real["time"].dt.epoch("ns").to_list() == [sample.time_ns for sample in samples]


def test_rows_come_in_groups_of_a_bounded_size(boxed, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 16)
    file = pq.ParquetFile(write(boxed, tmp_path)["items"])
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert max(sizes) == 16
    assert sum(sizes) == len(boxed.items)


def test_no_item_is_a_table_without_rows(draw, drawn_run, tmp_path):
    empty = draw.changed(drawn_run, items=(), samples=())
    assert all(
        pl.read_parquet(path).height == 0 for name, path in write(empty, tmp_path).items() if name != "recordings"
    )


def test_a_value_that_fits_no_column_leaves_no_file_behind(boxed, draw, tmp_path):
    broken = draw.changed(boxed, items=(replace(boxed.items[0], box3d=Box3D("left", 0, 0, 1, 1, 1, 0)),))
    with pytest.raises(InputError, match=r"items\.parquet: the table cannot be written: .*left"):
        write(broken, tmp_path)
    assert not list(tmp_path.rglob("items*"))


def test_a_place_that_cannot_be_written_is_one_clear_line(boxed, tmp_path):
    (tmp_path / "parquet").write_text("")
    with pytest.raises(InputError, match=r"recordings\.parquet: cannot be written"):
        write(boxed, tmp_path)


def test_a_run_becomes_tables(short_run):
    out, _ = short_run
    assert main(["export", str(out), "--as", "parquet"]) == 0
    results = json.loads((out / "results.json").read_text())
    items = pl.read_parquet(out / "parquet" / "items.parquet")
    assert items["item"].to_list() == [item["id"] for item in results["items"]]
    assert items["box_x"].null_count() < items.height
    defects = pl.read_parquet(out / "parquet" / "defects.parquet")
    assert defects["fate"].to_list() == [defect["fate"] for defect in results["defects"]]


@pytest.mark.parametrize("table", TABLES)
def test_the_page_tells_every_column(table):
    section = DOCS.read_text().partition(f"`{table}.parquet`")[2].partition("\n#")[0]
    assert [line.split("|")[1].strip(" `") for line in section.splitlines() if line.startswith("| `")] == [
        column.name for column in TABLES[table]
    ]
