"""A real daemon, a real service and a real collector: each item is one tree, from its reading to its answer."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from fusion.tracing import root_span_id, submit_span_id, trace_id
from fusion.types import ItemId, SampleId

from .otlp import collecting
from .ports import free_address

DAEMON = Path(__file__).parent / "edge_node" / "programs" / "daemon_with_fakes.py"
SLACK_NS = 50_000_000
"""How far the two hosts' anchors of wall time may lie apart here."""

EDGE = {"item", "capture", "perceive", "detect", "fuse", "screen", "encode", "spool", "outbox", "submit"}
CLOUD = {"review", "ledger lookup", "queue", "batch review", "commit"}


class Nodes:
    """Both nodes as processes in one folder."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder, self.address, self.trace = folder, free_address(), f"trace.endpoint={endpoint}"
        self.summary = folder / "summary.json"
        self.config = folder / "edge.toml"
        self.config.write_text(
            'device = "cart-1"\n[source]\npath = "unused"\n'
            f'[spool]\npath = "{folder / "spool.db"}"\nkeep_free_bytes = 0\n'
            "[screening]\naudit_rate = 0.05\nonset_s = 0.0\nrepeat_s = 0.3\n"
            f'[uplink]\naddress = "{self.address}"\nbackoff_first_s = 0.05\nbackoff_max_s = 0.2\n'
        )

    def cloud(self, *more: str) -> subprocess.Popen:
        settings = [f"listen={self.address}", 'reviewers=["fixed:yard"]', f"ledger={self.folder / 'ledger.db'}"]
        overrides = [part for one in (*settings, self.trace, *more) for part in ("--set", one)]
        process = subprocess.Popen(
            [sys.executable, "-m", "cloud_node.cli", "serve", *overrides],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline().startswith("ready on")
        return process

    def edge(self, frames: int = 60, *more: str) -> subprocess.Popen:
        command = [sys.executable, DAEMON, str(frames), "2", self.config, self.summary, self.trace, *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline().startswith("ready")
        return process

    def items(self) -> dict[str, tuple[ItemId, str]]:
        """(item, state) by trace of all that left the device, by the device's own books."""
        with sqlite3.connect(self.folder / "spool.db") as spool:
            (epoch,) = spool.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            rows = spool.execute("SELECT sequence, item, state FROM items WHERE evidence_bytes > 0").fetchall()
        ids = [(ItemId(SampleId("cart-1", epoch, sequence), item), state) for sequence, item, state in rows]
        return {trace_id(item): (item, state) for item, state in ids}


def end(process: subprocess.Popen) -> str:
    process.terminate()
    return process.communicate(timeout=60)[1]


def check_tree(spans) -> None:
    """One root, every parent is there, and whoever has a parent lies within its time."""
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    assert [span.name for span in spans if not span.parent] == ["item"]
    for span in spans:
        assert span.start_ns <= span.end_ns
        if span.parent:
            parent = by_id[span.parent]
            slack = SLACK_NS if span.service != parent.service else 1000
            assert parent.start_ns - slack <= span.start_ns, (span, parent)
            assert span.end_ns <= parent.end_ns + slack, (span, parent)


def test_each_item_is_one_tree_from_its_reading_to_its_answer(tmp_path):
    with collecting() as collector:
        nodes = Nodes(tmp_path, collector.endpoint)
        cloud = nodes.cloud("log_format=json")
        edge = nodes.edge()
        assert edge.communicate(timeout=120)[1].count("dropped") == 0
        assert edge.returncode == 0
        end(cloud)
        traces = collector.traces()
    items = nodes.items()
    assert set(traces) == set(items)
    assert len(items) > 5
    asked = 0
    for trace, (item, state) in items.items():
        spans = traces[trace]
        check_tree(spans)
        named = {span.name: span for span in spans}
        assert set(named) - {"pixels"} == EDGE | CLOUD
        assert {span.name for span in spans if span.service == "edge-node"} == EDGE
        root, submit, review, batch = (named[name] for name in ("item", "submit", "review", "batch review"))
        assert (root.id, submit.id, review.parent) == (root_span_id(item), submit_span_id(item), submit_span_id(item))
        assert named["detect"].parent == named["perceive"].id
        assert named["detect"].end_ns - named["detect"].start_ns >= 2_000_000
        assert (submit.kind, review.kind) == (3, 2)
        for span in (root, review):
            assert (span.attributes["fusion.item"], span.attributes["fusion.state"]) == (str(item), state)
        assert root.attributes["fusion.reasons"]
        assert submit.attributes["fusion.sent"] == 1
        assert submit.attributes["fusion.service_clock.error_ms"] > 0
        assert review.attributes["fusion.reviewer"] == "fixed:yard"
        assert batch.attributes["fusion.batch.items"] >= 1
        assert batch.attributes["fusion.batch"].startswith("fixed:yard@")
        asked += "pixels" in named
        assert ("pixels" in named) == bool(submit.attributes["fusion.pixels_sent"])
    assert asked  # and was reviewed again, in a second batch
    assert max([span.name for span in spans].count("batch review") for spans in traces.values()) == 2


def test_an_item_keeps_its_trace_over_kills_of_either_side(tmp_path):
    """The device is killed before anything is sent, then the service with items of the next device in its hands."""
    with collecting() as collector:
        nodes = Nodes(tmp_path, collector.endpoint)
        first = nodes.edge(100, "uplink.address=127.0.0.1:1")
        with sqlite3.connect(f"file:{tmp_path / 'spool.db'}?mode=ro", uri=True) as spool:
            collector.until(lambda: spool.execute("SELECT count(*) FROM samples").fetchone()[0] >= 50)
        first.kill()
        first.communicate()
        assert not collector.spans  # nothing is told of what has no end
        cloud = nodes.cloud("batch.items=1")
        second = nodes.edge(100)
        collector.until(lambda: any(span.name == "item" for span in collector.spans))
        cloud.kill()
        cloud.communicate()
        cloud = nodes.cloud("batch.items=1")
        errors = second.communicate(timeout=120)[1]
        assert second.returncode == 0, errors
        end(cloud)
        traces = collector.traces()
    items = nodes.items()
    assert set(traces) == set(items)
    for trace, spans in traces.items():
        check_tree(spans)
        assert {span.name for span in spans} >= EDGE - {"detect", "fuse", "screen"}
        assert {span.id for span in spans if span.name == "submit"} == {submit_span_id(items[trace][0])}
        assert {span.id for span in spans if not span.parent} == {root_span_id(items[trace][0])}
    of_the_first = [spans for spans in traces.values() if "detect" not in {span.name for span in spans}]
    assert len(of_the_first) > 3
    assert len(of_the_first) < len(traces)


def test_a_collector_that_is_away_loses_spans_and_nothing_else(tmp_path):
    nodes = Nodes(tmp_path, f"http://{free_address()}")
    cloud = nodes.cloud()
    edge = nodes.edge()
    errors = edge.communicate(timeout=120)[1]
    assert edge.returncode == 0, errors
    assert "spans were dropped" in errors
    assert "Traceback" not in errors
    assert "spans were dropped" in end(cloud)
    told = json.loads(nodes.summary.read_text())
    assert told["pending"] == 0
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        (stored,) = ledger.execute("SELECT count(*) FROM outcomes WHERE state = 'reviewed'").fetchone()
    assert stored == told["reviewed"] > 5
