"""The spool's tables. Reports read them too, so columns are part of the contract.

meta: `schema device task epoch born_ns` (wall clock); `audit_rate` is the lottery's since sample `audit_first`.
runs: one reading of one recording: its content hash, name and lap. `cursor` is the source's position after the
  last committed sample, `warm_cursor` where to read again from, `state` the tracker's and screener's snapshot
  (JSON, empty once it ended), `finished` 1 once the source ended. The laps and runs that no sample is of are forgotten,
  but for the newest (`runs.begin`).
samples: one row a processed sample. Durations in nanoseconds on the device's monotonic clock (`records.Timing`);
  `wait_ns` from decision to its commit's begin, `commit_ns` the commit it shared. `scale dx dy`: model pixels are
  frame pixels * scale + (dx, dy).
items: one row an item. Box in model pixels; `state` is an `ItemState`; `scores opinion verdict` are JSON.
outbox: what still waits for an answer. `crop` is a picture, `crop_form` its encoding and area (JSON), "" for none;
  `digest` is `records.row_digest`; `sent` 1 once it left the device. `context` are the other lanes that are kept
  (`records.sealed`), empty for none.
gaps: declared gaps; `count` is 0 when how much is missing cannot be known.
settled: counts of history that was folded away.
"""

from __future__ import annotations

SCHEMA = "1"

TABLES = (
    """CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE runs (
      run INTEGER PRIMARY KEY, content TEXT NOT NULL, name TEXT NOT NULL, lap INTEGER NOT NULL,
      cursor INTEGER NOT NULL, warm_cursor INTEGER NOT NULL, state TEXT NOT NULL, finished INTEGER NOT NULL,
      UNIQUE (content, name, lap))""",
    """CREATE TABLE samples (
      sequence INTEGER PRIMARY KEY, run INTEGER NOT NULL, cursor INTEGER NOT NULL, time_ns INTEGER NOT NULL,
      slots TEXT NOT NULL, scale REAL NOT NULL, dx REAL NOT NULL, dy REAL NOT NULL,
      source_ns INTEGER NOT NULL, edge_ns INTEGER NOT NULL, engine_ns INTEGER NOT NULL, beside_ns INTEGER NOT NULL,
      evidence_ns INTEGER NOT NULL, wait_ns INTEGER NOT NULL, commit_ns INTEGER,
      UNIQUE (run, cursor))""",
    """CREATE TABLE items (
      sequence INTEGER NOT NULL, item INTEGER NOT NULL, track INTEGER NOT NULL,
      x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL,
      label TEXT NOT NULL, score REAL NOT NULL, scores TEXT NOT NULL, opinion TEXT NOT NULL,
      reasons TEXT NOT NULL, value REAL NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL, into_item TEXT,
      evidence_bytes INTEGER NOT NULL, maps_bytes INTEGER NOT NULL, tokens_bytes INTEGER NOT NULL,
      crop_bytes INTEGER NOT NULL, pixels_sent INTEGER NOT NULL DEFAULT 0,
      decided_ns INTEGER NOT NULL, answered_ns INTEGER, verdict TEXT,
      PRIMARY KEY (sequence, item)) WITHOUT ROWID""",
    """CREATE INDEX items_by_state ON items (state)""",
    """CREATE TABLE outbox (
      id INTEGER PRIMARY KEY AUTOINCREMENT, sequence INTEGER NOT NULL, item INTEGER NOT NULL, profile TEXT NOT NULL,
      value REAL NOT NULL, created_ns INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0,
      evidence BLOB NOT NULL, crop BLOB NOT NULL, crop_form TEXT NOT NULL, digest BLOB NOT NULL, bytes INTEGER NOT NULL,
      context BLOB NOT NULL DEFAULT x'',
      UNIQUE (sequence, item))""",
    """CREATE INDEX outbox_by_value ON outbox (sent, value, id)""",
    """CREATE TABLE gaps (
      id INTEGER PRIMARY KEY, run INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
      count INTEGER NOT NULL, reason TEXT NOT NULL, declared_ns INTEGER NOT NULL)""",
    """CREATE TABLE settled (state TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID""",
)

ADDED = (("outbox", "context", "BLOB NOT NULL DEFAULT x''"),)
"""Columns (table, name, definition) that a spool lacks when an older program made it, which reads it all the same."""

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 4194304",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8192",
)
