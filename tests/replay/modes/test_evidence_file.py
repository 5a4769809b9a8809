"""Evidence files are whole and self-consistent, or refused with their name and place; never more than was written."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from edge_node.spool.copying import SpooledSample
from fusion.errors import FusionError, RecordingError
from fusion.recording.native.index import read_index
from fusion.recording.native.schemas import decoded
from fusion.recording.native.stream import MessageScan
from fusion.recording.native.truth_messages import read_truth, truth_message
from fusion.task import Task
from fusion.types import KeptLanes
from fusion.wire.convert import parse_evidence
from replay.running.evidence.facts import MAX_FACT_BYTES
from replay.running.evidence.layout import BOOKS_METADATA, METADATA, Tally, topics
from replay.running.evidence.reading import EvidenceFile, is_evidence

YARD = Task.load("yard")
FUZZ = settings(
    max_examples=80, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
REWRITTEN = settings(FUZZ, max_examples=30)


def items_of(path):
    """Evidence and what is kept, by item, of a file that is read to its end."""
    found = {}
    for record in EvidenceFile.open(path).records(YARD):
        if isinstance(record, SpooledSample):
            for item in record.items:
                found[record.row["sequence"], item.row["item"]] = (item.evidence, item.kept, item.row["state"])
    return found


def read_or_told(path):
    """The items, or the one line that says why there are none."""
    try:
        return items_of(path), ""
    except RecordingError as error:
        return {}, str(error)


@pytest.fixture(scope="session")
def content(evidence):
    """Its messages as (topic, time, bytes), its metadata, and its items."""
    scan = MessageScan(evidence)
    messages = [(scan.channels[m.channel].topic, m.time_ns, bytes(m.data)) for m in scan.messages()]
    return messages, scan.metadata, items_of(evidence)


@pytest.fixture
def rewritten(content, tmp_path):
    """Write a file of other messages, with books and checksums that are right for them."""
    _, metadata, _ = content

    def write(messages, *, head=None, books=None):
        path = tmp_path / "rewritten.mcap"
        with path.open("wb") as file:
            writer = Writer(file, compression=CompressionType.ZSTD, enable_data_crcs=True)
            writer.start(library="test")
            writer.add_metadata(METADATA, {"head": json.dumps(json.loads(metadata[METADATA]["head"]) | (head or {}))})
            channels, tally, counts = {}, Tally(), dict.fromkeys(("samples", "items", "evidence", "gaps", "truths"), 0)
            for topic, time_ns, data in messages:
                if topic not in channels:
                    how = topics()[topic]
                    schema = writer.register_schema(how.name, how.schema_encoding, how.schema)
                    channels[topic] = writer.register_channel(topic, how.encoding, schema)
                tally.message(topic, time_ns, data)
                counts[{"/samples": "samples", "/evidence": "evidence", "/gaps": "gaps", "/truth": "truths"}
                       .get(topic, "items")] += topic != "/kept"  # fmt: skip
                if topic == "/samples":
                    with suppress(ValueError, TypeError, KeyError, RecursionError):
                        counts["items"] += len(json.loads(data)["items"])
                writer.add_message(channels[topic], time_ns, data, time_ns)
            told = counts | {"sha256": tally.sha256} | (books or {})
            writer.add_metadata(BOOKS_METADATA, {"books": json.dumps(told)})
            writer.finish()
        return path

    return write


def test_any_mcap_tool_sees_indexed_messages_with_schemas_and_checksums(evidence, content):
    with evidence.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        seen = {}
        for schema, channel, message in reader.iter_messages():
            seen.setdefault(channel.topic, []).append((schema.name, message.data))
    assert summary.statistics.message_count == sum(map(len, seen.values()))
    assert all(chunk.message_index_offsets for chunk in summary.chunk_indexes)
    assert {topic: {name for name, _ in found} for topic, found in seen.items()} == {
        "/samples": {"fusion.SampleFacts"},
        "/evidence": {"fusion.wire.v1.Evidence"},
        "/kept": {"fusion.wire.v1.PixelAnswer"},
        "/truth": {"foxglove.SceneUpdate"},
    }
    digests = [i["evidence_sha256"] for _, data in seen["/samples"] for i in json.loads(data)["items"]]
    assert [hashlib.sha256(data).hexdigest() for _, data in seen["/evidence"]] == list(filter(None, digests))
    sent = [evidence for evidence, _, _ in content[2].values() if evidence]
    assert [data for _, data in seen["/evidence"]] == sent
    assert len({parse_evidence(data).item for data in sent}) == len(sent) > 0


def test_every_item_that_waits_keeps_its_picture(content):
    waiting = {key: value for key, value in content[2].items() if value[2] == "pending"}
    assert waiting
    assert all(evidence and kept.pixels for evidence, kept, _ in waiting.values())
    others = [value[:2] for value in content[2].values() if value[2] != "pending"]
    assert others
    assert all(lanes == (b"", KeptLanes()) for lanes in others)


def test_samples_tell_when_they_were_and_what_they_took(content):
    told = {name for topic, _, data in content[0] if topic == "/samples" for name in json.loads(data)}
    spans = {name for name in told if name.endswith("_ns")}
    assert spans == {"time_ns", "source_ns", "edge_ns", "engine_ns", "beside_ns", "evidence_ns", "wait_ns", "commit_ns"}


@FUZZ
@given(data=st.data())
def test_a_damaged_byte_is_told_or_changes_nothing(evidence, content, tmp_path, data):
    whole = evidence.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.mcap"
    path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    found, told = read_or_told(path)
    assert found == content[2] if not told else re.fullmatch(rf"{re.escape(str(path))}: .+", told)


@FUZZ
@given(data=st.data())
def test_a_file_that_is_cut_off_or_has_bytes_too_many_is_refused(evidence, tmp_path, data):
    whole = evidence.read_bytes()
    path = tmp_path / "cut.mcap"
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        at = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:at] + data.draw(st.binary(min_size=1, max_size=40)) + whole[at:])
    with pytest.raises(RecordingError, match=r"cut\.mcap: "):
        items_of(path)
    with suppress(FusionError):
        list(EvidenceFile.open(path).truth())
    is_evidence(path)


@REWRITTEN
@given(data=st.data())
def test_messages_that_are_missing_doubled_or_in_another_order_invent_no_evidence(content, rewritten, data):
    messages, _, items = content
    changed = list(messages)
    for _ in range(data.draw(st.integers(1, 3))):
        a, b = data.draw(st.integers(0, len(changed) - 1)), data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["drop", "double", "swap", "move"])):
            case "drop":
                del changed[a]
            case "double":
                changed.insert(b, changed[a])
            case "swap":
                changed[a], changed[b] = changed[b], changed[a]
            case "move":
                changed.insert(b, changed.pop(a))
    path = rewritten(changed)
    with suppress(RecordingError):
        found = items_of(path)
        assert found.items() <= items.items()


@REWRITTEN
@given(data=st.data())
def test_facts_of_any_kind_are_taken_or_refused_in_one_line(content, rewritten, data):
    messages = list(content[0])
    numbers = [n for n, (topic, _, _) in enumerate(messages) if topic == "/samples"]
    chosen = data.draw(st.sampled_from(numbers))
    topic, time_ns, text = messages[chosen]
    facts = json.loads(text)
    part = data.draw(st.sampled_from([facts, *facts["items"]]))
    key = data.draw(st.sampled_from([*part, "new"]))
    part[key] = data.draw(
        st.one_of(
            st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=8),
            st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        )
    )  # fmt: skip
    messages[chosen] = topic, time_ns, json.dumps(facts).encode()
    _, told = read_or_told(rewritten(messages))
    assert "\n" not in told


def change_first(content, wanted, change):
    messages = list(content[0])
    for number, (topic, time_ns, data) in enumerate(messages):
        if topic == wanted:
            messages[number] = topic, time_ns, change(data)
            return messages
    raise AssertionError(wanted)


def edited(**changes):
    return lambda data: json.dumps(json.loads(data) | changes).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: change_first(c, "/evidence", lambda data: data + b"\0"), "its digest is another"),
        (lambda c: change_first(c, "/kept", lambda data: data[:-1]), "its digest is another"),
        (lambda c: change_first(c, "/samples", lambda _: b" " * (MAX_FACT_BYTES + 1)), f"at most {MAX_FACT_BYTES}"),
        (lambda c: change_first(c, "/samples", lambda _: b"[" * 100_000), "SampleFacts"),
        (lambda c: change_first(c, "/samples", edited(sequence=0)), "SampleFacts: sequence"),
        (lambda c: change_first(c, "/samples", edited(dx=float("nan"))), "SampleFacts: dx"),
        (lambda c: [m for m in c[0] if m[0] != "/kept"], "/kept of"),
        (lambda c: [m for m in c[0] if m[0] != "/samples"], "that no sample tells of"),
    ],
)
def test_what_is_wrong_is_named_with_its_byte(content, rewritten, change, words):
    with pytest.raises(RecordingError, match=r"rewritten.mcap: in the chunk at byte \d+: ") as caught:
        items_of(rewritten(change(content)))
    assert words in str(caught.value)


def first_item(change):
    """The first item of a sample's facts as `change` makes it; samples without items stay."""

    def edit(data):
        facts = json.loads(data)
        for item in facts["items"][:1]:
            change(item)
        return json.dumps(facts).encode()

    return edit


def every(content, wanted, change):
    return [(topic, time_ns, change(data) if topic == wanted else data) for topic, time_ns, data in content[0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda item: item.update(label="dragon"), "label 'dragon' is none of task yard's: drum, "),
        (lambda item: item["scores"]["class"].update(dragon=1.0), "scores.class 'dragon' is none of task yard's: drum"),
        (lambda item: item["scores"]["condition"].update(wet=1.0), "scores.condition 'wet' is none of task yard's: ok"),
        (lambda item: item["opinion"]["label"].update(dragon=1.0), "opinion.label 'dragon' is none of task yard's: "),
        (lambda item: item["opinion"]["condition"].update(wet=1.0), "opinion.condition 'wet' is none of task yard's"),
    ],
)
def test_a_name_that_the_task_does_not_have_is_refused(ways, content, rewritten, tmp_path, capsys, change, words):
    path = rewritten(every(content, "/samples", first_item(change)))
    assert ways.run(path, "--cloud-only", "--out", tmp_path / "out") == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(rf"replay: {re.escape(str(path))}: in the chunk at byte \d+: replay/[0-9a-f]{{16}}/\d+#1: ", told)
    assert words in told
    assert not list(tmp_path.rglob("spool.db*"))


@pytest.mark.parametrize("told", [{"condition": "wet"}, {"action": "wet"}])
def test_a_truth_that_the_task_does_not_have_is_one_line_with_its_item(
    ways, content, rewritten, tmp_path, capsys, told
):
    def edit(data):
        truth = read_truth(decoded(SceneUpdate, data), 0)
        things = tuple(replace(thing, **told) for thing in truth.objects)
        return truth_message(replace(truth, objects=things)).SerializeToString(deterministic=True)

    path = rewritten(every(content, "/truth", edit), head={"source": "/nowhere.mcap"})
    assert ways.run(path, "--cloud-only", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(rf"replay: {re.escape(str(path))}: item replay/[0-9a-f]{{16}}/\d+#\d+: task yard: slot ", said)
    assert "has no option 'wet', which the truth asks for" in said


def test_what_a_run_left_is_read_by_the_same_rule(ways, both, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(both, old)
    with closing(sqlite3.connect(old / "recordings" / "second" / "spool.db")) as db, db:
        db.execute("UPDATE items SET label = 'dragon'")
    assert ways.run(old, "--cloud-only", "--out", tmp_path / "new") == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"replay: {old}/recordings/second: replay/")
    assert "label 'dragon' is none of task yard's" in told


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"head": {"epoch": "0" * 16}}, ": evidence of replay/"),
        ({"head": {"task": "pcb"}}, "is of task 'yard', the file of 'pcb'"),
        ({"head": {"device": "A device"}}, "device name"),
        ({"head": {"format": "2"}}, "format"),
        ({"head": {"name": "../../etc"}}, "name"),
        ({"head": {"name": ".."}}, "name"),
        ({"head": {"name": "a" * 201}}, "name"),
        ({"books": {"evidence": 1000}}, "evidence where its books count 1000"),
        ({"books": {"sha256": "0" * 64}}, "the digest in its books is another"),
    ],
)
def test_head_and_books_must_be_those_of_the_messages(content, rewritten, told, words):
    with pytest.raises(RecordingError, match=r"rewritten.mcap: ") as caught:
        items_of(rewritten(content[0], **told))
    assert words in str(caught.value)


def test_a_recording_is_no_evidence_and_evidence_is_known_by_its_index(recording, evidence, tmp_path):
    assert is_evidence(evidence)
    assert not is_evidence(recording)
    assert not is_evidence(tmp_path)
    with pytest.raises(RecordingError, match="holds no evidence"):
        EvidenceFile.open(recording)
    assert not list(evidence.parent.glob("*.part"))
    assert read_index(evidence).complete


def test_reading_takes_memory_of_one_chunk_only(content, rewritten):
    """A thousand times the samples are handed out one by one: the first comes before the last is read."""
    messages = [m for m in content[0] if m[0] == "/samples"]
    plain = json.loads(messages[0][2])
    plain["items"] = [item for item in plain["items"] if item["evidence_sha256"] is None]
    many = [("/samples", n, json.dumps(plain | {"sequence": n}).encode()) for n in range(1, 3001)]
    path = rewritten(many)
    size = path.stat().st_size
    stream = EvidenceFile.open(path).records(YARD)
    assert next(stream).row["sequence"] == 1
    os.truncate(path, size // 2)
    with pytest.raises(RecordingError, match="byte"):
        list(stream)
