"""Writes the tables: `parquet/TABLE.parquet`, zstd, in row groups of a bounded number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusion.errors import InputError
from fusion.recording.part_file import part_file
from replay.export.base import Exported, Openers
from replay.export.parquet.columns import TABLES, schema
from replay.export.parquet.rows import ROWS, Row
from replay.results.records import RunResults

FOLDER = "parquet"
ROW_GROUP = 16_384
"""Rows held in memory and stored together."""


def export(results: RunResults, opened: Openers, out: Path) -> Exported:
    """Every table of the run. See `replay.export.base.Exporter`."""
    del opened  # the tables tell of the run, not of what was recorded
    facts = {"task": results.task.name} | {f"set {key}": value for key, value in results.settings.items()}
    paths = []
    for table in TABLES:
        path = out / FOLDER / f"{table}.parquet"
        write_table(schema(table, facts), ROWS[table](results), path)
        paths.append(path)
    return Exported(tuple(paths))


def write_table(columns: Any, rows: Iterator[Row], path: Path) -> None:
    """Write `rows` as a Parquet file with the Arrow schema `columns`. Raises `InputError` naming the file."""
    with part_file(path) as file:
        try:
            with pq.ParquetWriter(file, columns, compression="zstd") as writer:
                while group := list(islice(rows, ROW_GROUP)):
                    writer.write_batch(pa.RecordBatch.from_pylist(group, schema=columns))
        except pa.ArrowException as error:
            raise InputError(f"{path}: the table cannot be written: {error}") from None
