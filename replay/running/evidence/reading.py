"""Reads an evidence file, which is not trusted: whatever is not exactly as it was written is refused with its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate

from edge_node.spool.copying import Row, SpooledItem, SpooledSample, SpoolNames
from fusion.errors import FusionError, InputError, RecordingError
from fusion.recording.native.index import Index, indexed_metadata, peek_index, read_index
from fusion.recording.native.schemas import decoded
from fusion.recording.native.stream import MessageScan, RawMessage, Wanted
from fusion.recording.native.truth_messages import read_truth
from fusion.task import Task
from fusion.types import ItemId, ItemState, KeptLanes, SampleId, Truth
from fusion.wire.convert import evidence_digest, parse_evidence
from fusion.wire.recorded import parse_answer
from replay.running.evidence.facts import (
    Books,
    GapFacts,
    Head,
    ItemFacts,
    SampleFacts,
    gap_row,
    item_row,
    parse,
    sample_row,
)
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
from replay.running.evidence.names import check_names


def is_evidence(path: Path) -> bool:
    """Whether `path` is an MCAP that says it holds evidence, damaged or not; never raises."""
    return path.is_file() and any(entry.name == METADATA for entry in peek_index(path).metadata)


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceFile:
    """An open evidence file. Every iterator is one pass of its own, with memory bounded by one chunk."""

    path: Path
    head: Head
    books: Books
    _index: Index

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises `RecordingError` for a file that is cut off, damaged at its end, or holds no evidence."""
        with _told(path):
            index = read_index(path)
            told = dict(indexed_metadata(path, index))
            if METADATA not in told or BOOKS_METADATA not in told:
                raise InputError("it holds no evidence")
            head = parse(Head, told[METADATA].get("head", ""))
            books = parse(Books, told[BOOKS_METADATA].get("books", ""))
            SampleId(head.device, head.epoch, 1)
            _check_topics(index)
        return cls(path, head, books, index)

    @property
    def names(self) -> SpoolNames:
        """Whose spool it was."""
        return SpoolNames(self.head.device, self.head.epoch, self.head.task, self.head.content_sha256)

    def records(self, task: Task) -> Iterator[SpooledSample | Row]:
        """Every sample as a spool has it, then every gap's row. Raises `RecordingError` naming the byte.

        Classes and conditions must be those of `task`. What was handed out counts only once the end was reached without
        an error: the books are checked last.
        """
        scan, reader, at = self._scan(), _Reader(self.head, task), 0
        with _told(self.path):
            for message in scan.messages():
                at = message.offset
                try:
                    found = reader.take(scan.channels[message.channel].topic, message)
                except FusionError as error:
                    raise InputError(f"in the chunk at byte {at}: {error}") from None
                if found is not None:
                    yield found
            reader.close(self.books)

    def truth(self) -> Iterator[Truth]:
        """What was true, in order. Raises `RecordingError`."""
        wanted = frozenset(number for number, channel in self._index.channels.items() if channel.topic == TRUTH)
        with _told(self.path):
            for message in self._scan().messages(Wanted(channels=wanted)) if wanted else ():
                yield read_truth(decoded(SceneUpdate, message.data), message.time_ns)

    def _scan(self) -> MessageScan:
        index = self._index
        return MessageScan(self.path, index.places, dict(index.channels), dict(index.schemas))


def _check_topics(index: Index) -> None:
    known = topics()
    for channel in index.channels.values():
        how, schema = known.get(channel.topic), index.schemas.get(channel.schema_id)
        if how is None:
            raise InputError(f"topic {channel.topic[:64]!r} is none of an evidence file")
        if schema is None or (schema.name, channel.message_encoding) != (how.name, how.encoding):
            raise InputError(f"topic {channel.topic} does not hold {how.name} in {how.encoding}")


@dataclass(slots=True)
class _Reader:
    """Takes the messages in order and puts samples together."""

    head: Head
    task: Task
    tally: Tally = field(default_factory=Tally)
    _last: int = 0
    _sample: SampleFacts | None = None
    _due: list[tuple[str, ItemFacts]] = field(default_factory=list)
    _evidence: dict[int, bytes] = field(default_factory=dict)
    _kept: dict[int, KeptLanes] = field(default_factory=dict)

    def take(self, topic: str, message: RawMessage) -> SpooledSample | Row | None:
        """What is complete with this message. Raises `FusionError`."""
        data = bytes(message.data)
        self.tally.message(topic, message.time_ns, data)
        if topic in {EVIDENCE_TOPIC, KEPT_TOPIC}:
            return self._lanes(topic, data)
        if self._due:
            raise InputError(f"{topic} where {self._due[0][0]} of {self._id(self._due[0][1])} must come")
        if topic == SAMPLES:
            return self._begin(parse(SampleFacts, data))
        if topic == GAPS:
            self.tally.gaps += 1
            return gap_row(parse(GapFacts, data))
        self.tally.truths += 1
        return None

    def close(self, books: Books) -> None:
        """The file is over. Raises `InputError` unless it held what its books say."""
        if self._due:
            raise InputError(f"it ends before {self._due[0][0]} of {self._id(self._due[0][1])}")
        tally = self.tally
        for name in ("samples", "items", "evidence", "gaps", "truths"):
            if getattr(tally, name) != getattr(books, name):
                raise InputError(f"{getattr(tally, name)} {name} where its books count {getattr(books, name)}")
        if tally.sha256 != books.sha256:
            raise InputError("its messages are not those that were written: the digest in its books is another")

    def _begin(self, facts: SampleFacts) -> SpooledSample | None:
        if facts.sequence <= self._last:
            raise InputError(f"sample {facts.sequence} after sample {self._last}")
        self._last = facts.sequence
        self.tally.samples += 1
        self.tally.items += len(facts.items)
        self._sample = facts
        before = 0
        for item in facts.items:
            if item.item <= before:
                raise InputError(f"item {item.item} after item {before} of sample {facts.sequence}")
            before = item.item
            self._expect(item)
        return None if self._due else self._whole()

    def _expect(self, item: ItemFacts) -> None:
        if (item.state is ItemState.PENDING) != (item.evidence_sha256 is not None):
            raise InputError(f"{self._id(item)} is {item.state.value}, and its evidence does not go with that")
        if item.into_item is not None:
            ItemId.parse(item.into_item)
        if item.evidence_sha256 is not None:
            self._due.append((EVIDENCE_TOPIC, item))
        if item.kept_sha256 is not None:
            self._due.append((KEPT_TOPIC, item))

    def _lanes(self, topic: str, data: bytes) -> SpooledSample | None:
        if not self._due or self._due[0][0] != topic:
            raise InputError(f"{topic} of {len(data)} bytes that no sample tells of")
        _, item = self._due.pop(0)
        whose = self._id(item)
        wanted = item.evidence_sha256 if topic == EVIDENCE_TOPIC else item.kept_sha256
        if evidence_digest(data) != wanted:
            raise InputError(f"{topic} of {whose} is not what the sample tells of: its digest is another")
        if topic == EVIDENCE_TOPIC:
            self._check(whose, data)
            self._evidence[item.item] = data
        else:
            named, self._kept[item.item] = parse_answer(data)
            if named != whose:
                raise InputError(f"{topic} of {named} where that of {whose} must come")
        return None if self._due else self._whole()

    def _check(self, whose: ItemId, data: bytes) -> None:
        self.tally.evidence += 1
        evidence = parse_evidence(data)
        if evidence.item != whose:
            raise InputError(f"evidence of {evidence.item} where that of {whose} must come")
        if evidence.task != self.head.task:
            raise InputError(f"evidence of {whose} is of task {evidence.task!r}, the file of {self.head.task!r}")

    def _whole(self) -> SpooledSample:
        facts = self._sample
        assert facts is not None
        items = tuple(self._item(facts.sequence, item) for item in facts.items)
        self._evidence, self._kept, self._sample = {}, {}, None
        return SpooledSample(sample_row(facts), items)

    def _item(self, sequence: int, item: ItemFacts) -> SpooledItem:
        evidence, kept = self._evidence.get(item.item, b""), self._kept.get(item.item, KeptLanes())
        row = item_row(sequence, item)
        check_names(self.task, self._id(item), row)
        return SpooledItem(row, evidence, item.profile, kept)

    def _id(self, item: ItemFacts) -> ItemId:
        assert self._sample is not None
        return ItemId(SampleId(self.head.device, self.head.epoch, self._sample.sequence), item.item)


@contextmanager
def _told(path: Path) -> Iterator[Any]:
    """Whatever is wrong with the file as one line that names it and says what to do."""
    try:
        yield
    except FusionError as error:
        what = str(error).removeprefix(f"{path}: ").partition("; 'fusion convert")[0]
        raise RecordingError(f"{path}: {what}; run the recording with --edge-only again") from None
