"""Bags that are cut off, were never closed or were changed: one line that says where, and salvage up to there."""

import re
import sqlite3
import struct
from contextlib import closing, suppress

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.native.stream import EVERYTHING
from fusion.recording.ros import ros2_packed
from fusion.recording.ros.bags import open_bag
from fusion.recording.ros.reader import RosReader
from fusion.recording.ros.ros1_record import MAGIC

PIXELS = np.zeros((4, 6, 3), np.uint8)
POINTS = np.ones(20, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])


def drive(m, start, moments=6):
    for i in range(moments):
        time = start + i * 100_000_000
        yield "/cam/image", m.image(PIXELS, "rgb8", time), time
        yield "/points", m.cloud(POINTS, time), time


@pytest.fixture
def bag(bags, tmp_path):
    """A ROS 1 bag of several chunks."""
    path = tmp_path / "whole.bag"
    bags.write_bag1(path, drive(bags.messages("bag"), bags.start), threshold=700)
    return path


@pytest.fixture
def folder(bags):
    """A ROS 2 bag."""
    return bags.write("folder", drive(bags.messages("folder"), bags.start))


def test_a_cut_bag_is_refused_and_salvaged_up_to_there(bag, tmp_path):
    whole = bag.read_bytes()
    full = [(c, r.sensor, r.capture_time_ns) for c, r in open_recording(bag).readings()]
    cut = tmp_path / "cut.bag"
    saved = []
    for size in range(0, len(whole) - 1, 97):
        cut.write_bytes(whole[:size])
        with pytest.raises(RecordingError, match=r"damaged at byte \d+: ") as caught:
            open_recording(cut)
        assert str(caught.value).startswith(f"{cut}: damaged at byte ")
        assert "\n" not in str(caught.value)
        reader = open_recording(cut, salvage=True)
        rest = []
        with suppress(RecordingError):  # of nothing, nothing is a sensor
            rest = [(c, r.sensor, r.capture_time_ns) for c, r in reader.readings()]
        assert rest == full[: len(rest)]
        if size > 4200:
            assert str(len(rest)) in str(caught.value)
            assert reader.info().damage
        saved.append(len(rest))
    assert saved == sorted(saved)
    assert saved[-1] == len(full), "a bag that lacks only its index has all its messages"


def test_a_bag_that_was_never_closed_says_so(bag, tmp_path):
    data = bytearray(bag.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    data[at : at + 8] = bytes(8)
    path = tmp_path / "a.bag.active"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"never closed \(it has no index\); 12 messages before it are sound"):
        open_recording(path)
    assert len(list(open_recording(path, salvage=True).readings())) == 12
    assert "never closed" in open_recording(path, salvage=True).info().damage


@pytest.mark.parametrize("offset", [0, 1 << 40, 1 << 63, (1 << 64) - 1])
def test_an_index_that_points_out_of_the_bag_is_damage_and_salvage_does_without(bag, offset):
    data = bytearray(bag.read_bytes())
    at = data.index(b"chunk_pos=") + len(b"chunk_pos=")
    struct.pack_into("<Q", data, at, offset)
    path = bag.with_name("pointing.bag")
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=rf"pointing.bag: damaged at .* chunk at byte {offset} ") as caught:
        list(open_recording(path).readings())
    assert "12 messages before it are sound" in str(caught.value)
    reader = open_recording(path, salvage=True)
    assert len(list(reader.readings())) == 12
    assert f"chunk at byte {offset} " in reader.info().damage


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"#ROSBAG V1.2\n" + bytes(200), r"a bag of format 1.2; only 2.0 is read"),
        (b"something else entirely", "does not begin like this"),
        (MAGIC, "ends inside a record"),
        (MAGIC + struct.pack("<I", 1 << 31), "a record's header that claims 2147483648 bytes"),
        (MAGIC + struct.pack("<I", 4) + bytes(4) + bytes(4), "malformed field"),
        (MAGIC + struct.pack("<II", 8, 4) + b"op=\x03" + struct.pack("<I", 0), "without a sound field 'index_pos'"),
    ],
)
def test_what_is_no_bag_is_named(tmp_path, content, text):
    path = tmp_path / "a.bag"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=text):
        open_recording(path)


def test_an_encrypted_bag_is_named(bag, tmp_path):
    data = bag.read_bytes()
    field = b"encryptor=secret"
    packed = struct.pack("<I", len(field)) + field
    length = struct.unpack_from("<I", data, len(MAGIC))[0]
    at = len(MAGIC) + 4 + length
    path = tmp_path / "secret.bag"
    path.write_bytes(MAGIC + struct.pack("<I", length + len(packed)) + data[len(MAGIC) + 4 : at] + packed + data[at:])
    with pytest.raises(RecordingError, match="it is encrypted by secret"):
        open_recording(path)


def test_a_declared_size_that_is_not_there_is_not_allocated(bags, tmp_path):
    path = tmp_path / "a.bag"
    bags.write_bag1(path, drive(bags.messages("bag"), bags.start), "BZ2")
    data = bytearray(path.read_bytes())
    at = (
        data.index(b"size=", data.index(b"compression="))
        if data.index(b"compression=") < data.index(b"size=")
        else data.index(b"size=")
    )
    for size, text in (((1 << 32) - 1, "claims 4294967295 bytes"), (5, "declares 5 bytes unpacks to 6")):
        struct.pack_into("<I", data, at + 5, size)
        path.write_bytes(data)
        with pytest.raises(RecordingError, match=text):
            list(open_recording(path).readings())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_bag_raises_nothing_but_our_errors(bag, data):
    _survives(bag, data, bag.with_name("changed.bag"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_sqlite_file_raises_nothing_but_our_errors(folder, data):
    file = next(folder.glob("*.db3"))
    _survives(file, data, folder.with_name("changed.db3"))


def _survives(path, data, changed):
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    changed.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for salvage in (False, True):
        with suppress(RecordingError):
            reader = RosReader.open(changed, None, None, salvage=salvage)
            reader.info()
            list(reader.readings())


@pytest.mark.parametrize("keep", [0, 50, 100, 5000, 9000, -1])
def test_a_cut_sqlite_file_is_refused(folder, keep):
    file = next(folder.glob("*.db3"))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RecordingError, match=r"not a sound SQLite file of a ROS 2 bag"):
        list(open_recording(folder).readings())


def test_a_database_of_something_else_is_named(tmp_path):
    path = tmp_path / "a.db3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE topics (id TEXT, name, type, serialization_format)")
        database.execute("CREATE TABLE messages (id, topic_id, timestamp, data)")
        database.execute("INSERT INTO topics VALUES ('one', 2, 3, 4)")
    with pytest.raises(RecordingError, match="row one of the topics is malformed"):
        open_recording(path)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM topics")
        database.execute("INSERT INTO messages VALUES (1, 7, 'noon', 'text')")
    with pytest.raises(RecordingError, match="messages of topic 7, which the file does not declare"):
        open_recording(path)


def test_rows_that_hold_no_message_are_named(folder):
    file = next(folder.glob("*.db3"))
    with sqlite3.connect(file) as database:
        database.execute("UPDATE messages SET data = 'text' WHERE id = 3")
    with pytest.raises(RecordingError, match="row 3 of the messages holds int, str where a time and bytes belong"):
        list(open_recording(folder).readings())


@pytest.fixture
def split(bags, tmp_path):
    """A ROS 2 bag of three SQLite files, whose pictures take several pages each."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 80, 100, 3), np.uint8)
    m, times = bags.messages("folder"), [bags.start + i * 100_000_000 for i in range(24)]
    messages = [("/cam/image", m.image(p, "rgb8", time), time) for p, time in zip(pixels, times, strict=True)]
    for part in range(3):
        bags.write("folder", messages[8 * part : 8 * part + 8], f"part_{part}")
    path = tmp_path / "part_0"
    for part in (1, 2):
        (tmp_path / f"part_{part}/part_{part}.db3").rename(path / f"part_{part}.db3")
    about = path / "metadata.yaml"
    names = "\n  ".join(f"- part_{part}.db3" for part in range(3))
    about.write_text(about.read_text().replace("- part_0.db3", names, 1))
    return path


def pages_of(file, row):
    """Where the page begins that a row is in, and one of those that its picture goes on in."""
    with sqlite3.connect(file) as database:
        (data,) = database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    content = file.read_bytes()
    return content.index(data[:100]) // size * size, content.index(data[9000:9100]) // size * size


def spoil(file, start):
    content = bytearray(file.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    file.write_bytes(content)


def check_cursors(reader):
    """The capture times of what is read, numbered upwards within 64 bits, wherever reading begins."""
    found = [(cursor, reading.capture_time_ns) for cursor, reading in reader.readings()]
    cursors = [cursor for cursor, _ in found]
    assert cursors == sorted(set(cursors))
    assert 0 < cursors[0] <= cursors[-1] < 1 << 63
    for at, cursor in enumerate(cursors):
        assert [c for c, _ in reader.readings(cursor)] == cursors[at + 1 :]
    return [time for _, time in found]


def taken(path, salvage):
    """The bytes of each message that is read, by row, and the damage."""
    source = open_bag(path, salvage=salvage)
    return {message.cursor: bytes(message.data) for message in source.messages(EVERYTHING)}, source.damage


def reach(content, data, page):
    """Up to where a file must go on to hold `data`, in whole pages."""
    found = [content.find(data[at : at + 16]) for at in [*range(0, len(data) - 16, 512), len(data) - 16]]
    return (max(found) // page + 1) * page


@pytest.mark.parametrize("mid_page", [0, 100, 4095])
def test_of_a_cut_sqlite_file_salvage_reads_the_rows_that_are_there_whole(split, tmp_path, mid_page):
    file, cut = split / "part_0.db3", tmp_path / "cut.db3"
    content, (full, _) = file.read_bytes(), taken(file, salvage=False)
    reaches = {row: reach(content, data, 4096) for row, data in full.items()}
    counts = []
    for size in range(min(reaches.values()) - mid_page, len(content), 3 * 4096):
        cut.write_bytes(content[:size])
        with pytest.raises(RecordingError) as caught:
            open_recording(cut)
        told = f"cut off at byte {size} of {len(content)}"
        assert str(caught.value) == (
            f"{cut}: not a sound SQLite file of a ROS 2 bag ({told}); salvage reads what is sound of it"
        )
        kept, damage = taken(cut, salvage=True)
        assert kept == {row: data for row, data in full.items() if reaches[row] <= size}
        assert f"{cut}: {told}; {cut}: " in damage or len(kept) == len(full)
        counts.append(len(kept))
    assert counts[0] <= 1
    assert counts[-1] >= 7


def test_a_cut_sqlite_file_is_a_recording_with_salvage(split, bags):
    file = split / "part_2.db3"
    content = file.read_bytes()
    size = reach(content, taken(file, salvage=False)[0][5], 4096)
    file.write_bytes(content[: size + 7])
    with pytest.raises(RecordingError, match=rf"part_2.db3: .*cut off at byte {size + 7} of {len(content)}\); salvage"):
        open_recording(split)
    reader = open_recording(split, salvage=True)
    assert check_cursors(reader) == [bags.start + i * 100_000_000 for i in range(21)]
    info = reader.info()
    assert f"{file}: damaged behind row 5 (page " in info.damage
    assert info.damage.endswith("all rows behind")
    assert info.notes["messages"] == "metadata.yaml tells 8, the files hold 21"


def test_what_one_damaged_page_holds_is_all_that_salvage_leaves_out(bags, tmp_path):
    """Of a table three pages deep, page by page: what SQLite finds by its key is read."""
    random, m = np.random.default_rng(0), bags.messages("folder")
    sound = [("/mic/audio", m.audio(random.bytes(150 + 4 * (i % 200))), bags.start + i) for i in range(400)]
    file, spoilt = next(bags.write("folder", sound).glob("*.db3")), tmp_path / "spoilt.db3"
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")
    content, (full, _) = file.read_bytes(), taken(file, salvage=False)
    kinds = [content[at] for at in range(0, len(content), 512)]
    interior = [page for page, kind in enumerate(kinds) if kind == 5]
    assert len(interior) > 2
    lost = 0
    for page in [*interior[1:], *range(interior[0] + 1, len(kinds), 17)]:
        spoilt.write_bytes(content)
        spoil(spoilt, page * 512)
        kept, damage = taken(spoilt, salvage=True)
        if not damage:  # an index, or bytes of a message that SQLite cannot tell from others
            assert kept.keys() == full.keys()
            continue
        assert kept.items() < full.items()
        with sqlite3.connect(spoilt) as database:
            for row in full.keys() - kept.keys():
                with suppress(sqlite3.Error):
                    found = database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchall()
                    assert found != [(full[row],)]
        missing = sorted(full.keys() - kept.keys())
        several = f"left out: up to {len(missing)} rows, to row {missing[-1]}"
        assert damage.endswith("; left out" if len(missing) == 1 else several) or missing[-1] == 400
        assert damage.endswith("left out: all rows behind") or missing[-1] < 400
        assert damage.count("left out") == 1
        lost = max(lost, len(missing))
    assert lost > 20, "an inner page was among them"


@pytest.mark.parametrize("row", [1, 7])
def test_rows_of_a_damaged_page_are_left_out_and_those_of_others_read(split, row, bags):
    places = [pages_of(split / "part_0.db3", other)[0] for other in range(1, 9)]
    for name in ("part_0.db3", "part_1.db3"):
        spoil(split / name, places[row - 1])
    with pytest.raises(RecordingError, match=r"part_0.db3: not a sound SQLite file .*; salvage reads what is sound"):
        open_recording(split)
    reader = open_recording(split, salvage=True)
    kept = [8 * part + i for part in range(3) for i in range(8) if part == 2 or places[i] != places[row - 1]]
    assert check_cursors(reader) == [bags.start + i * 100_000_000 for i in kept]
    place = places[row - 1]
    for name in ("part_0.db3", "part_1.db3"):
        told = f"{name}: row {row} of the messages cannot be read (page {place // 4096 + 1} at byte {place}: "
        assert told in reader.info().damage


def test_beside_a_write_ahead_log_salvage_reads_up_to_a_damaged_page(split):
    file = split / "part_0.db3"
    page = pages_of(file, 7)[0]
    sound = [row for row in range(1, 9) if pages_of(file, row)[0] < page]
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("CREATE TABLE other (id INTEGER)")
        database.commit()
        spoil(file, page)
        kept, damage = taken(file, salvage=True)
    assert list(kept) == sound
    assert f"part_0.db3: damaged behind row {len(sound)} (" in damage


def test_a_row_whose_bytes_are_damaged_is_left_out_alone_and_told(split, bags):
    spoil(split / "part_0.db3", pages_of(split / "part_0.db3", 3)[1])
    with sqlite3.connect(split / "part_1.db3") as database:
        database.execute("UPDATE messages SET data = 'text' WHERE id = 5")
        database.execute("UPDATE messages SET topic_id = 9 WHERE id = 6")
    reader = open_recording(split, salvage=True)
    kept = [i for i in range(24) if i not in {2, 12, 13}]
    assert check_cursors(reader) == [bags.start + i * 100_000_000 for i in kept]
    damage = reader.info().damage
    assert "part_0.db3: row 3 of the messages cannot be read (" in damage
    assert "part_1.db3: row 5 of the messages holds int, str where a time and bytes belong; left out" in damage
    assert "part_1.db3: row 6 of the messages is of topic 9, which the file does not declare; left out" in damage


def break_packed(folder, *rows):
    """Make the zstd frames of these messages be none behind their first bytes."""
    with sqlite3.connect(next(folder.glob("*.db3"))) as database:
        for row in rows:
            ((data,),) = database.execute("SELECT data FROM messages WHERE id = ?", (row,))
            broken = data[:4] + b"\xff" * (len(data) - 4)
            database.execute("UPDATE messages SET data = ? WHERE id = ?", (broken, row))


@pytest.mark.parametrize("rows", [(5,), (6,), (1, 2, 11, 12)])
def test_of_a_bag_of_packed_messages_one_that_cannot_be_unpacked_is_left_out_alone(bags, rows):
    folder = bags.write("folder-message-zstd", drive(bags.messages("folder"), bags.start))
    whole = open_recording(folder)
    full = [(c, r.sensor, r.capture_time_ns) for c, r in whole.readings()]
    sizes = whole.sizes()
    break_packed(folder, *rows)
    reader = open_recording(folder)
    assert list(reader.info().sensors) == ["cam-image", "points"]
    first = rows[0]
    topic, time = ("/cam/image", "/points")[(first + 1) % 2], bags.start + (first - 1) // 2 * 100_000_000
    told = rf"drive: message {first} \(row {first} of drive.db3\), {topic}: stored at {time} ns: .*cannot unpack"
    with pytest.raises(RecordingError, match=told):
        list(reader.readings())
    assert [c for c, _ in reader.readings(max(rows))] == [c for c, *_ in full if c > max(rows)]
    saved = open_recording(folder, salvage=True)
    kept = [(c, r.sensor, r.capture_time_ns) for c, r in saved.readings()]
    assert kept == [one for one in full if one[0] not in rows]
    info = saved.info()
    assert sum(sensor.count for sensor in info.sensors.values()) == len(full) - len(rows)
    assert all(f"message {row} (row {row} of drive.db3)" in info.damage for row in rows[:3])
    assert info.damage.count("left out") == min(len(rows), 3)
    bad = {name: sum((row - 1) % 2 == at for row in rows) for at, name in enumerate(("cam-image", "points"))}
    assert saved.sizes() == {name: size * (6 - bad[name]) // 6 for name, size in sizes.items()}


def long_bag(bags, chunks=120):
    """A bag of one file, packed as a whole, whose sound does not compress; the file."""
    random, m = np.random.default_rng(0), bags.messages("folder")
    sound = [("/mic/audio", m.audio(random.bytes(3200)), bags.start + i * 100_000_000) for i in range(chunks)]
    folder = bags.write("folder-file-zstd", sound)
    return next(folder.glob("*.zstd"))


def test_a_packed_file_that_is_cut_is_named_and_salvaged_up_to_there(bags):
    file = long_bag(bags)
    full = [r.capture_time_ns for _, r in open_recording(file.parent).readings()]
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(RecordingError, match=rf"{file.name}: zstd cannot unpack it behind byte \d+ .*inside a frame"):
        open_recording(file.parent)
    reader = open_recording(file.parent, salvage=True)
    kept = [r.capture_time_ns for _, r in reader.readings()]
    assert kept == full[: len(kept)]
    assert len(full) // 2 < len(kept) < len(full)
    damage = reader.info().damage
    assert f"{file}: zstd cannot unpack it behind byte" in damage
    assert "fusion-bag-" not in damage


def test_a_packed_file_that_is_no_sqlite_is_named_itself(bags):
    file = long_bag(bags, 3)
    file.write_bytes(zstandard.compress(b"no database" * 99))
    for salvage in (False, True):
        with pytest.raises(RecordingError, match=rf"^{re.escape(str(file))}: not a sound SQLite file"):
            open_recording(file.parent, salvage=salvage)


def test_a_packed_file_is_not_unpacked_beyond_what_the_disk_has(bags, monkeypatch):
    file = long_bag(bags, 30)
    monkeypatch.setattr(ros2_packed, "_MAX_BYTES", 50_000)
    for salvage in (False, True):
        with pytest.raises(RecordingError, match=rf"{file.name}: unpacks to more than the 50000 bytes"):
            open_recording(file.parent, salvage=salvage)


def test_a_file_packed_in_several_frames_is_read_whole(bags):
    file = long_bag(bags, 3)
    full = [r.capture_time_ns for _, r in open_recording(file.parent).readings()]
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes())
    file.write_bytes(b"".join(zstandard.compress(plain[at : at + 5000]) for at in range(0, len(plain), 5000)))
    assert [r.capture_time_ns for _, r in open_recording(file.parent).readings()] == full


@pytest.mark.parametrize("described", [False, True])
def test_a_packed_message_of_sound_that_cannot_be_unpacked_is_left_out_alone(bags, described):
    m, chunk = bags.messages("folder"), np.arange(1600, dtype="<i2").tobytes()
    about = [("/mic/audio_info", m.audio_info(), bags.start)] * (2 * described)
    sound = [("/mic/audio", m.audio(chunk), bags.start + i * 100_000_000) for i in range(10)]
    folder = bags.write("folder-message-zstd", [*about, *sound])
    bad = 3 + len(about)
    break_packed(folder, bad)
    with pytest.raises(RecordingError, match=rf"message {bad} \(row {bad} of drive.db3\), /mic/audio: stored at "):
        list(open_recording(folder).readings())
    reader = open_recording(folder, salvage=True)
    assert [c - len(about) for c, _ in reader.readings()] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert f"message {bad} " in reader.info().damage


def test_row_numbers_of_several_files_stay_within_64_bits(split, bags):
    with sqlite3.connect(split / "part_0.db3") as database:
        database.execute("UPDATE messages SET id = ? WHERE id = 8", ((1 << 63) - 1,))
    with pytest.raises(RecordingError, match=rf"part_0.db3: row {(1 << 63) - 1} of the messages; of a bag of 3 files"):
        open_recording(split)
    reader = open_recording(split, salvage=True)
    assert check_cursors(reader) == [bags.start + i * 100_000_000 for i in range(24) if i != 7]
    assert f"part_0.db3: row {(1 << 63) - 1} of the messages; of a bag of 3 files" in reader.info().damage
    alone = open_recording(split / "part_0.db3")
    assert [cursor for cursor, _ in alone.readings()][-1] == (1 << 63) - 1


def test_a_damaged_mcap_of_ros_is_salvaged_too(bags, tmp_path):
    path = tmp_path / "a.mcap"
    bags.write_mcap(path, drive(bags.messages("bag"), bags.start), chunk_size=700)
    full = len(list(open_recording(path).readings()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(RecordingError, match="damaged at byte"):
        open_recording(path)
    reader = open_recording(path, salvage=True)
    assert 0 < len(list(reader.readings())) <= full
    assert reader.info().damage


def test_a_type_with_another_definition_is_not_read(bags, tmp_path):
    path = tmp_path / "a.bag"
    bags.write_bag1(path, drive(bags.messages("bag"), bags.start), md5="0" * 32)
    with pytest.raises(RecordingError, match="with another definition than the standard one"):
        next(open_recording(path).readings())
