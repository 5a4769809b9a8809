"""Truncated, flipped, forged: one clear line, or what is sound, never a traceback, a wrong answer or a full memory."""

import io
import re
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, DataEnd, Footer, Header, Schema
from mcap.writer import Writer

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.recording.native import stream
from fusion.recording.native.chunk import MAX_CHUNK_BYTES, parsed
from fusion.recording.native.reader import McapReader
from fusion.recording.native.recover import recover_recording
from fusion.recording.native.stream import MAGIC, MessageScan
from fusion.recording.native.writer import RecordingWriter
from fusion.types import AudioChunk, Image


def contents(reader):
    readings = [
        (cursor, r.sensor, r.capture_time_ns, bytes(memoryview(getattr(r.payload, name)).cast("B")))
        for cursor, r in reader.readings()
        for name in ("pixels", "points", "pcm")
        if hasattr(r.payload, name)
    ]
    return readings, list(reader.truth())


def put(path, data):
    """Write a new file: some file systems flush to disk when an old one is overwritten."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def checked(reader):
    reader.info()
    reader.sizes()
    return reader


def everything(reader):
    return contents(checked(reader))


def refusal(action):
    """The `RecordingError` that ended `action`, if one did; any other exception is a defect and goes through."""
    try:
        action()
    except RecordingError as error:
        return error
    return None


def sound_messages(error):
    return int(re.search(r"(\d+) messages before it are sound", str(error)).group(1))


def test_a_truncated_file_is_one_line_and_its_sound_part_can_be_had(small, tmp_path):
    data = small.read_bytes()
    whole, _ = contents(open_recording(small))
    path = tmp_path / "cut.mcap"
    saved = []
    for share in (0.05, 0.3, 0.5, 0.7, 0.9, 0.99):
        put(path, data[: int(len(data) * share)])
        with pytest.raises(RecordingError, match=rf"cut.mcap: damaged at byte {path.stat().st_size}:") as caught:
            open_recording(path)
        assert "\n" not in str(caught.value)
        reader = open_recording(path, salvage=True)
        found, _ = contents(reader) if sound_messages(caught.value) else ([], [])
        assert found == whole[: len(found)]
        assert all(cursor <= sound_messages(caught.value) for cursor, *_ in found)
        assert "ends inside a record" in reader.info().damage
        saved.append(len(found))
    assert saved == sorted(saved)
    assert saved[-1] > 0.6 * len(whole), "all chunks but the last of an almost whole file must be saved"


def test_cuts_at_the_edges_of_every_record(tiny, tmp_path):
    """At each record boundary and one byte to either side; all of it, when only the index is lost."""
    data = tiny.read_bytes()
    boundaries, at = [0, 1, len(MAGIC)], len(MAGIC)
    while at < len(data) - len(MAGIC):
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
        boundaries.append(at)
    path = tmp_path / "cut.mcap"
    total = MessageScan(tiny)
    assert sum(1 for _ in total.messages())
    counts = []
    for cut in sorted({b + d for b in boundaries for d in (-1, 0, 1) if 0 <= b + d < len(data)}):
        put(path, data[:cut])
        with pytest.raises(RecordingError) as caught:
            open_recording(path)
        if "not an MCAP" in str(caught.value):
            assert cut == 0
            continue
        counts.append(sound_messages(caught.value))
    assert counts == sorted(counts)
    assert counts[-1] == total.cursor


def test_every_flipped_bit_is_noticed(tiny, tmp_path):
    data = bytearray(tiny.read_bytes())
    path = tmp_path / "flipped.mcap"
    missed = []
    for at in range(0, len(data), 41):
        data[at] ^= 1 << at % 8
        put(path, data)
        data[at] ^= 1 << at % 8
        error = refusal(lambda: checked(McapReader(path)))
        if error is None or str(path) not in str(error):
            missed.append(at)
    assert missed == []


def test_of_a_chunk_with_a_flipped_bit_salvaging_leaves_out_that_chunk_alone(small, tmp_path):
    data = bytearray(small.read_bytes())
    index = McapReader(small)._index
    offsets = sorted(index.chunks)
    data[offsets[1] + 5000] ^= 4
    path = tmp_path / "flipped.mcap"
    path.write_bytes(data)
    whole, _ = contents(open_recording(small))
    found = []
    with pytest.raises(RecordingError, match=rf"damaged at byte {offsets[1]}: a chunk") as caught:
        found.extend(open_recording(path).readings())
    before = index.places[offsets[0]].messages
    after = before + index.places[offsets[1]].messages
    assert sound_messages(caught.value) == before
    reader = open_recording(path, salvage=True)
    salvaged, _ = contents(reader)
    assert salvaged == [one for one in whole if not before < one[0] <= after]
    assert len(whole) > len(salvaged)
    damage = reader.info().damage
    assert damage.startswith(f"{path}: damaged at byte {offsets[1]}: a chunk")
    assert damage.endswith("; left out")


def test_beyond_bytes_that_are_no_records_salvaging_goes_on_at_the_next_chunk(small, tmp_path):
    index = McapReader(small)._index
    offsets = sorted(index.chunks)
    data = bytearray(small.read_bytes())
    data[offsets[1] : offsets[1] + 9] = b"\xff" * 9
    path = tmp_path / "torn.mcap"
    path.write_bytes(data)
    whole, _ = contents(open_recording(small))
    reader = open_recording(path, salvage=True)
    salvaged, _ = contents(reader)
    before = index.places[offsets[0]].messages
    after = before + index.places[offsets[1]].messages
    assert salvaged == [one for one in whole if not before < one[0] <= after]
    assert f"damaged at byte {offsets[1]}" in reader.info().damage
    assert f"left out up to byte {offsets[2]}" in reader.info().damage


def test_a_picture_that_cannot_be_decoded_is_left_out_alone_and_told(tmp_path):
    path = tmp_path / "half.mcap"
    with RecordingWriter(path, None, "yard") as writer:
        for number in range(3):
            whole = cv2.imencode(".jpg", np.full((32, 32, 3), 60 * number, np.uint8))[1].tobytes()
            picture = Image(np.zeros((32, 32, 3), np.uint8), whole[: len(whole) // (2 if number == 1 else 1)], "jpeg")
            writer.camera("front", number * 10**9, picture)
            writer.audio("mic", number * 10**9, AudioChunk(np.zeros(0 if number == 1 else 160, np.int16), 16_000))
    with pytest.raises(RecordingError, match=r"message 3 \(/camera/front\) at byte \d+"):
        list(open_recording(path).readings())
    reader = open_recording(path, salvage=True)
    assert [cursor for cursor, reading in reader.readings() if reading.sensor == "front"] == [1, 5]
    info = reader.info()
    assert info.sensors["front"].count == 2
    assert "message 3 (/camera/front) at byte" in info.damage


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutilated_files_end_in_a_recording_error_or_the_truth(tiny, tmp_path, data):
    """Bytes overwritten, removed and put in, with all checksums of the file switched off."""
    path = tmp_path / "mutilated.mcap"
    raw = bytearray(_unchecked(tiny))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "put", "big"]))
        if what == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del raw[at : at + data.draw(st.integers(1, 40))]
        elif what == "put":
            raw[at:at] = data.draw(st.binary(max_size=20))
        else:
            raw[at : at + 4] = b"\xff" * 4
    put(path, raw)
    for salvage in (False, True):
        error = refusal(lambda salvage=salvage: everything(McapReader(path, salvage=salvage)))
        assert "\n" not in str(error or "")


def test_a_length_beyond_any_memory_is_a_malformed_record():
    times_and_checksum, no_compression = bytes(28), bytes(4)
    with pytest.raises(RecordingError, match="malformed Chunk"):
        parsed(Chunk, times_and_checksum + no_compression + b"\xff" * 8)


def _unchecked(path):
    """The same messages without compression or checksums, so that damage reaches the decoders."""
    from mcap.writer import CompressionType

    out = io.BytesIO()
    writer = Writer(out, compression=CompressionType.NONE, enable_crcs=False)
    writer.start()
    scan, channels = MessageScan(path), {}
    for message in scan.messages():
        if message.channel not in channels:
            channel = scan.channels[message.channel]
            schema = scan.schemas[channel.schema_id]
            number = writer.register_schema(schema.name, schema.encoding, schema.data)
            channels[message.channel] = writer.register_channel(channel.topic, "protobuf", number)
        writer.add_message(channels[message.channel], message.time_ns, bytes(message.data), message.time_ns)
    writer.finish()
    return out.getvalue()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_refused(tmp_path, noise, with_magic):
    path = tmp_path / "noise.mcap"
    put(path, MAGIC + noise if with_magic else noise)
    with pytest.raises(RecordingError):
        list(open_recording(path).readings())
    with pytest.raises(RecordingError):
        list(open_recording(path, salvage=True).readings())


def forged(path, chunk):
    """A file of one forged chunk, without a summary, as a recorder without an index would end it."""
    builder = RecordBuilder()
    Header("", "forger").write(builder)
    chunk.write(builder)
    DataEnd(0).write(builder)
    Footer(summary_start=0, summary_offset_start=0, summary_crc=0).write(builder)
    path.write_bytes(MAGIC + builder.end() + MAGIC)
    return path


def chunk_of(data, compression="zstd", size=None, crc=0):
    return Chunk(compression, data, 0, 0, crc, len(data) if size is None else size)


def records(opcode, count):
    return (bytes([opcode]) + bytes(8)) * count


SMALL_ZSTD = zstandard.compress(b"\x03" * 100)


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        (chunk_of(zstandard.compress(bytes(1 << 20)), size=1 << 40), "claims 1099511627776 bytes"),
        (
            chunk_of(zstandard.compress(bytes(MAX_CHUNK_BYTES)), size=1000),
            "declares 1000 bytes unpacks to 1001 or more",
        ),
        (chunk_of(SMALL_ZSTD, size=200), "declares 200 bytes unpacks to 100"),
        (chunk_of(b"rubbish", size=200), "zstd cannot unpack"),
        (chunk_of(b"rubbish", "lz4", size=200), "lz4 cannot unpack"),
        (chunk_of(SMALL_ZSTD, "brotli", size=100), "'brotli'"),
        (chunk_of(SMALL_ZSTD, size=100, crc=7), "checksum is wrong"),
        (chunk_of(zstandard.compress(bytes(40 << 20)), size=40 << 20), "opcode 0"),
        (chunk_of(zstandard.compress(records(0x80, 5_000_000)), size=45_000_000), "more than 262144 records"),
        (chunk_of(bytes([5]) + (1 << 62).to_bytes(8, "little"), ""), "claims 4611686018427387904 bytes"),
        (chunk_of(records(5, 1), ""), "a message record of 0 bytes"),
        (chunk_of(records(0x80, 1) + b"123", ""), "3 stray bytes"),
        (chunk_of(bytes([5]) + (22).to_bytes(8, "little") + bytes(22), ""), "channel 0, which was not declared"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forged_chunks_are_refused_quickly(tmp_path, chunk, text):
    path = forged(tmp_path / "forged.mcap", chunk)
    began = time.process_time()
    with pytest.raises(RecordingError, match=text):
        open_recording(path).info()
    assert time.process_time() - began < 5
    assert "damaged" in open_recording(path, salvage=True).info().damage


def test_a_bomb_takes_no_memory(tmp_path):
    """256 MiB in 8 KiB that declare a harmless size: the limit of `decompress` would be ignored here."""
    squeezer = zstandard.ZstdCompressor().compressobj(size=256 << 20)
    bomb = b"".join(squeezer.compress(bytes(16 << 20)) for _ in range(16)) + squeezer.flush()
    path = forged(tmp_path / "bomb.mcap", chunk_of(bomb, size=1 << 20))
    program = (
        "import resource, sys; from pathlib import Path; from fusion.errors import RecordingError\n"
        "from fusion.recording import open_recording\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import fusion.recording.native.reader; before = peak()\n"
        "try: open_recording(Path(sys.argv[1])).info()\n"
        "except RecordingError: print((peak() - before) // 1024)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=60)
    assert int(ran.stdout) < 100, "more than 100 MB for a chunk that declares 1 MB"


def test_a_record_that_claims_too_much_is_refused(tmp_path):
    path = tmp_path / "huge.mcap"
    path.write_bytes(MAGIC + bytes([6]) + (1 << 50).to_bytes(8, "little") + bytes(100))
    with pytest.raises(RecordingError, match="cut off"):
        open_recording(path)
    assert "claims 1125899906842624 bytes" in open_recording(path, salvage=True).info().damage


def test_a_channel_that_changes_its_mind_is_refused(tmp_path):
    builder = RecordBuilder()
    Schema(data=b"", encoding="", id=1, name="s").write(builder)
    for topic in ("/a", "/b"):
        Channel(id=1, topic=topic, message_encoding="", metadata={}, schema_id=1).write(builder)
    path = forged(tmp_path / "two.mcap", chunk_of(builder.end(), ""))
    with pytest.raises(RecordingError, match="channel 1 is declared twice"):
        open_recording(path).info()


def test_an_index_that_miscounts_is_noticed(small, tmp_path):
    reader = McapReader(small)
    offset = min(reader._index.chunks)
    place = reader._index.places[offset]
    reader._index.places[offset] = type(place)(place.messages + 1, place.channels)
    with pytest.raises(RecordingError, match="where the index counts"):
        list(reader.readings())


def summary_changed(source, path, opcode, at, value):
    """A copy whose first record of `opcode` in the summary has `value` `at` bytes into it, with no checksum of that."""
    data = bytearray(source.read_bytes())
    (begin,) = struct.unpack_from("<Q", data, len(data) - len(MAGIC) - 20)
    while data[begin] != opcode:
        begin += 9 + struct.unpack_from("<Q", data, begin + 1)[0]
    struct.pack_into("<Q", data, begin + 9 + at, value)
    data[-len(MAGIC) - 4 : -len(MAGIC)] = bytes(4)
    put(path, data)
    return path


@pytest.mark.parametrize("value", [0, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize(
    ("opcode", "at", "what"), [(Opcode.CHUNK_INDEX, 16, "message index"), (Opcode.METADATA_INDEX, 0, "metadata")]
)
def test_an_index_that_points_out_of_the_file_is_damage_and_salvage_does_without(
    tiny, tmp_path, opcode, at, what, value
):
    path = summary_changed(tiny, tmp_path / "pointing.mcap", opcode, at, value)
    with pytest.raises(RecordingError, match=rf"pointing.mcap: damaged at byte \d+: the {what}: ") as caught:
        everything(McapReader(path))
    assert sound_messages(caught.value) == sum(1 for _ in MessageScan(tiny).messages())
    assert contents(McapReader(path, salvage=True)) == contents(McapReader(tiny))


@pytest.mark.parametrize("value", [1 << 40, 1 << 63, (1 << 64) - 1])
def test_an_index_of_chunks_beyond_the_file_does_not_help_salvaging(small, tmp_path, value):
    index = McapReader(small)._index
    torn = max(index.chunks)
    path = summary_changed(small, tmp_path / "pointing.mcap", Opcode.CHUNK_INDEX, 16, value)
    data = bytearray(path.read_bytes())
    data[torn : torn + 9] = b"\xff" * 9
    put(path, data)
    whole, _ = contents(McapReader(small))
    reader = McapReader(path, salvage=True)
    found, _ = contents(checked(reader))
    before = index.messages - index.places[torn].messages
    assert found == [one for one in whole if one[0] <= before]
    assert f"damaged at byte {torn}" in reader.info().damage


@pytest.mark.parametrize("length", [1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_chunk_that_is_passed_over_and_claims_too_much_is_damage(small, tmp_path, length):
    offset = sorted(McapReader(small)._index.chunks)[1]
    data = bytearray(small.read_bytes())
    struct.pack_into("<Q", data, offset + 1, length)
    put(tmp_path / "long.mcap", data)
    reader = McapReader(tmp_path / "long.mcap")
    with pytest.raises(RecordingError, match=rf"long.mcap: damaged at byte {offset}: the file ends inside a record"):
        list(reader.readings(1 << 40))


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89MCAP1\r\n" + bytes(100)])
def test_what_is_no_mcap_is_named(tmp_path, content):
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"a.mcap: not an MCAP file"):
        open_recording(path)


def test_recovery_makes_a_whole_file_of_the_sound_part(small, tmp_path):
    cut, out = tmp_path / "cut.mcap", tmp_path / "whole.mcap"
    data = small.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingError, match=r"'fusion convert .*cut.mcap -o whole.mcap' keeps them"):
        open_recording(cut)
    line = str(convert(cut, out))
    assert "messages kept" in line
    assert "ends inside a record" in line
    rescued = contents(open_recording(out))
    assert rescued == contents(open_recording(cut, salvage=True))
    info = open_recording(out).info()
    assert info.task == "yard"
    assert info.rig.cameras.keys() == {"front"}


def test_recovery_of_a_whole_file_keeps_everything(small, tmp_path):
    recovery = recover_recording(small, tmp_path / "copy.mcap")
    assert recovery.damage == ""
    assert contents(open_recording(tmp_path / "copy.mcap")) == contents(open_recording(small))


def foreign(path, attachment=b"pdf"):
    """A file of another recorder: one sweepless topic, two metadata records of one name, an attachment, a profile."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="acme", library="theirs")
        writer.add_attachment(3, 4, "manual", "application/pdf", attachment)
        writer.add_metadata("place", {"hall": "1"})
        writer.add_metadata("place", {"hall": "2"})
        channel = writer.register_channel("/state", "json", writer.register_schema("State", "jsonschema", b"{}"))
        writer.add_message(channel, 1000, b"{}", 500, sequence=77)
        writer.finish()


def test_recovery_keeps_times_counts_metadata_attachments_and_the_profile(tmp_path):
    foreign(tmp_path / "a.mcap")
    assert recover_recording(tmp_path / "a.mcap", tmp_path / "b.mcap").damage == ""
    with (tmp_path / "b.mcap").open("rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "acme"
        (_, channel, message), *_ = reader.iter_messages()
        assert (channel.topic, message.log_time, message.publish_time, message.sequence) == ("/state", 1000, 500, 77)
        assert [record.metadata for record in reader.iter_metadata()] == [{"hall": "1"}, {"hall": "2"}]
        (kept,) = reader.iter_attachments()
        assert (kept.create_time, kept.log_time, kept.name, kept.media_type) == (3, 4, "manual", "application/pdf")
        assert kept.data == b"pdf"


@pytest.mark.parametrize("size", [10, 2 << 20], ids=["in one chunk", "a chunk a message"])
def test_recovery_keeps_topics_no_message_is_of(tmp_path, size):
    path, out = tmp_path / "a.mcap", tmp_path / "b.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("Door", "jsonschema", b"{}")
        writer.register_channel("/door", "json", schema, {"unit": "open"})
        writer.register_channel("/plain", "json", 0)
        talking = writer.register_channel("/state", "json", writer.register_schema("State", "jsonschema", b"{}"))
        for time_ns in (1000, 2000):
            writer.add_message(talking, time_ns, b" " * size, time_ns)
        writer.finish()
    cut = path.read_bytes()[: -(len(MAGIC) + 20)]
    for content in (path.read_bytes(), cut):
        path.write_bytes(content)
        assert recover_recording(path, out).messages == 2
        with out.open("rb") as file:
            summary = make_reader(file).get_summary()
        assert {c.topic: c.metadata for c in summary.channels.values()} == {
            "/door": {"unit": "open"}, "/plain": {}, "/state": {},
        }  # fmt: skip
        assert {s.name for s in summary.schemas.values()} == {"Door", "State"}
        scan = MessageScan(out)
        assert len(list(scan.messages())) == 2
        assert {c.topic for c in scan.channels.values()} == {"/door", "/plain", "/state"}, "without the summary, too"


def test_recovery_names_a_silent_topic_whose_schema_is_missing(tmp_path):
    path, out = tmp_path / "a.mcap", tmp_path / "b.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.register_channel("/door", "json", 7)
        writer.add_message(writer.register_channel("/state", "json", 0), 1000, b"{}", 500)
        writer.finish()
    done = recover_recording(path, out)
    assert done.messages == 1
    assert done.damage == "topic /door has the schema 7, which was never declared; left out"
    assert open_recording(out).survey.unread == ("/state (no schema, json)",)


def test_an_attachment_that_cannot_be_copied_is_named(tmp_path, monkeypatch):
    foreign(tmp_path / "a.mcap", b"a" * 999)
    data = (tmp_path / "a.mcap").read_bytes()
    (tmp_path / "flipped.mcap").write_bytes(data.replace(b"aaaa", b"aaba", 1))
    done = recover_recording(tmp_path / "flipped.mcap", tmp_path / "b.mcap")
    assert "the checksum of the attachment 'manual' is wrong; left out" in done.damage
    monkeypatch.setattr(stream, "MAX_RECORD_BYTES", 999)
    done = recover_recording(tmp_path / "a.mcap", tmp_path / "b.mcap")
    assert "an attachment of 1056 bytes, which is not copied; left out" in done.damage
    assert done.messages == 1


def test_recovery_of_nothing_leaves_nothing(tmp_path):
    (tmp_path / "a.mcap").write_bytes(MAGIC + b"\x01")
    with pytest.raises(RecordingError, match="nothing in it can be recovered"):
        convert(tmp_path / "a.mcap", tmp_path / "b.mcap")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]
    with pytest.raises(RecordingError, match="damaged recording itself"):
        recover_recording(tmp_path / "a.mcap", tmp_path / "a.mcap")


def test_points_that_are_not_finite_are_dropped_and_counted(tmp_path):
    from fusion.recording.native.writer import RecordingWriter
    from fusion.types import PointCloud

    points = np.ones((5, 4), np.float32)
    points[1, 0], points[3, 2] = np.nan, np.inf
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.lidar("roof", 1, PointCloud(points))
    reader = McapReader(tmp_path / "a.mcap")
    ((_, reading),) = reader.readings()
    assert reading.payload.points.shape == (3, 4)
    assert reader.dropped_points == 2
