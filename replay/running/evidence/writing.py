"""Writes an evidence file from a device's spool and the recording's truth, with memory bounded by a page of samples."""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

from edge_node.spool.copying import SpooledItem, SpooledSample, read_gaps, read_names, read_samples, reading
from fusion.errors import InputError, RecordingError
from fusion.recording.native.truth_messages import truth_message
from fusion.recording.part_file import part_file
from fusion.types import ItemId, KeptLanes, SampleId, Truth
from fusion.wire.convert import evidence_digest
from fusion.wire.recorded import serialize_answer
from replay.running.evidence.facts import Books, GapFacts, Head, ItemFacts, SampleFacts, facts_of
from replay.running.evidence.layout import (
    BOOKS_METADATA,
    EVIDENCE_TOPIC,
    GAPS,
    KEPT_TOPIC,
    METADATA,
    SAMPLES,
    TRUTH,
    Tally,
    topics,
)
from replay.running.plan import Job

_CHUNK_BYTES = 1 << 20


def write_evidence(
    spool: Path, out: Path, job: Job, truths: Iterable[Truth], *, continuous: bool = True, damage: str = ""
) -> Books:
    """Write all that lies in the spool at `spool` to `out`, whole or not at all; what it holds.

    Raises `FusionError` naming the file that cannot be read or written.
    """
    try:
        with reading(spool) as db, part_file(out) as file:
            names = read_names(db)
            head = Head(
                device=names.device, epoch=names.epoch, task=names.task, name=job.name, source=job.source,
                split=job.split, from_s=job.from_s, to_s=job.to_s, content_sha256=names.content,
                continuous=continuous, damage=damage,
            )  # fmt: skip
            return _EvidenceWriter(file, head).write(db, truths)
    except RecordingError:
        raise
    except (ValueError, InputError) as error:
        raise RecordingError(f"{out}: cannot be written: {error}") from None


class _EvidenceWriter:
    def __init__(self, file: Any, head: Head) -> None:
        self._writer: Any = Writer(
            file, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD, enable_crcs=True, enable_data_crcs=True
        )
        self._writer.start(library="fusion-stack")
        self._writer.add_metadata(METADATA, {"head": head.model_dump_json()})
        self._head, self._tally = head, Tally()
        self._channels = {
            topic: self._writer.register_channel(
                topic, how.encoding, self._writer.register_schema(how.name, how.schema_encoding, how.schema)
            )
            for topic, how in topics().items()
        }
        self._count = itertools.count(1)

    def write(self, db: sqlite3.Connection, truths: Iterable[Truth]) -> Books:
        """Everything, in the order of time as far as the samples are."""
        for one in _by_time(read_samples(db), truths):
            if isinstance(one, Truth):
                self._truth(one)
            else:
                self._sample(one)
        for row in read_gaps(db):
            self._tally.gaps += 1
            self._add(GAPS, row["declared_ns"], facts_of(row, GapFacts).model_dump_json().encode())
        tally = self._tally
        books = Books(
            samples=tally.samples, items=tally.items, evidence=tally.evidence, gaps=tally.gaps, truths=tally.truths,
            sha256=tally.sha256,
        )  # fmt: skip
        self._writer.add_metadata(BOOKS_METADATA, {"books": books.model_dump_json()})
        self._writer.finish()
        return books

    def _truth(self, truth: Truth) -> None:
        self._tally.truths += 1
        self._add(TRUTH, truth.time_ns, truth_message(truth).SerializeToString(deterministic=True))

    def _sample(self, sample: SpooledSample) -> None:
        sequence, time_ns = sample.row["sequence"], sample.row["time_ns"]
        answers = [self._answer(sequence, item) for item in sample.items]
        items = tuple(_item_facts(item, answer) for item, answer in zip(sample.items, answers, strict=True))
        self._tally.samples += 1
        self._tally.items += len(items)
        facts = facts_of(sample.row, SampleFacts, items=items)
        self._add(SAMPLES, time_ns, facts.model_dump_json(by_alias=True).encode())
        for item, answer in zip(sample.items, answers, strict=True):
            if item.evidence:
                self._tally.evidence += 1
                self._add(EVIDENCE_TOPIC, time_ns, item.evidence)
            if answer:
                self._add(KEPT_TOPIC, time_ns, answer)

    def _answer(self, sequence: int, item: SpooledItem) -> bytes:
        if not item.evidence or item.kept == KeptLanes():
            return b""
        sample = SampleId(self._head.device, self._head.epoch, sequence)
        return serialize_answer(ItemId(sample, item.row["item"]), item.kept)

    def _add(self, topic: str, time_ns: int, data: bytes) -> None:
        at = max(0, time_ns)
        self._tally.message(topic, at, data)
        self._writer.add_message(self._channels[topic], at, data, at, sequence=next(self._count) & 0xFFFFFFFF)


def _item_facts(item: SpooledItem, answer: bytes) -> ItemFacts:
    row = item.row
    return facts_of(
        row,
        ItemFacts,
        reasons=tuple(filter(None, row["reasons"].split(","))),
        profile=item.profile,
        evidence_sha256=evidence_digest(item.evidence) if item.evidence else None,
        kept_sha256=evidence_digest(answer) if answer else None,
    )


def _by_time(samples: Iterator[SpooledSample], truths: Iterable[Truth]) -> Iterator[SpooledSample | Truth]:
    """Both in one stream, each in its own order: by time where both rise."""
    told: Iterator[tuple[int, int, SpooledSample | Truth]] = ((truth.time_ns, 0, truth) for truth in truths)
    seen = ((sample.row["time_ns"], 1, sample) for sample in samples)
    for _, _, one in heapq.merge(told, seen, key=lambda entry: entry[:2]):
        yield one
