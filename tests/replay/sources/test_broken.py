"""Each way a recording can be broken: refused with one line, and with `--salvage` what is sound of it, told where.

The table of docs/replay/sources.md names these kinds.
"""

import re
import shutil
import struct
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from mcap.writer import Writer

from fusion.errors import FusionError
from fusion.recording import open_recording
from fusion.recording.native.reader import McapReader
from fusion.recording.native.schemas import descriptor_set
from fusion.recording.native.sensor_messages import cloud_message
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.types import AudioChunk, Image, PointCloud
from replay.running.plan import Job
from replay.sources.jobs import open_job

DAY, HOUR = 86_400 * 10**9, 3600 * 10**9
START = 1_700_000_000 * 10**9
DOCS = Path(__file__).parents[3] / "docs/replay/sources.md"


def truncated_mcap(folder, made):
    path = made(folder / "r.mcap", frames=20, chunk_bytes=20_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    return path, "yard"


def missing_index(folder, made):
    path = made(folder / "r.mcap")
    path.write_bytes(path.read_bytes()[:-100])
    return path, "yard"


def bad_checksum(folder, made):
    path = made(folder / "r.mcap", frames=20, chunk_bytes=20_000)
    content = bytearray(path.read_bytes())
    content[min(McapReader(path)._index.chunks) + 3000] ^= 1
    path.write_bytes(content)
    return path, "yard"


def timed(path, times_ns):
    with RecordingWriter(path, None, "yard") as writer:
        for number, time_ns in enumerate(times_ns):
            writer.camera("front", time_ns, Image(np.full((8, 8, 3), number, np.uint8)))
    return path, "yard"


def unsorted_time(folder, _made):
    return timed(folder / "r.mcap", [START + n * 10**8 for n in (0, 1, 3, 2, 4)])


def time_back(folder, _made):
    return timed(folder / "r.mcap", [START + n * 10**8 - (n > 2) * HOUR for n in range(6)])


def time_forward(folder, _made):
    return timed(folder / "r.mcap", [START + n * 10**8 + (n > 2) * DAY for n in range(6)])


def lone_time(folder, _made):
    return timed(folder / "r.mcap", [START + n * 10**8 + (n == 2) * DAY for n in range(6)])


def half_a_scan(folder, _made):
    """A sweep in a recording that is cut inside a point."""
    whole = PointCloud(np.full((50, 4), 0.5, np.float32))
    path = folder / "r.mcap"
    with path.open("wb") as file:
        foreign = Writer(file)
        foreign.start()
        kind = cloud_message("roof", START, whole, 0)
        schema = foreign.register_schema(kind.DESCRIPTOR.full_name, "protobuf", descriptor_set(type(kind)))
        channel = foreign.register_channel("/lidar/roof", "protobuf", schema)
        for n in range(3):
            message = cloud_message("roof", START + n * 10**8, whole, 0)
            message.data = message.data[: 403 if n == 1 else None]
            foreign.add_message(channel, START + n * 10**8, message.SerializeToString(), START + n * 10**8)
        foreign.finish()
    return path, "yard"


def half_a_message(folder, _made):
    """A picture in a recording of which half is gone."""
    whole = cv2.imencode(".jpg", np.full((32, 32, 3), 90, np.uint8))[1].tobytes()
    with RecordingWriter(folder / "r.mcap", None, "yard") as writer:
        for n in range(3):
            picture = Image(np.zeros((32, 32, 3), np.uint8), whole[: len(whole) // (2 if n == 1 else 1)], "jpeg")
            writer.camera("front", START + n * 10**8, picture)
    return folder / "r.mcap", "yard"


def half_a_picture(folder, _made):
    for part in ("images", "labels"):
        (folder / "boards" / part).mkdir(parents=True)
    for n in range(3):
        place = folder / f"boards/images/{n}.png"
        cv2.imwrite(str(place), np.random.default_rng(n).integers(0, 255, (32, 32, 3), np.uint8))
        place.write_bytes(place.read_bytes()[: None if n != 1 else 900])
    return folder / "boards", "pcb"


def truncated_wav(folder, _made):
    path = folder / "r.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(bytes(32_000))
    path.write_bytes(path.read_bytes()[:-8000])
    return path, "yard"


def truncated_bag(folder, _made):
    from rosbags.rosbag1 import Writer as BagWriter
    from rosbags.typesys import Stores, get_typestore

    store, path = get_typestore(Stores.ROS1_NOETIC), folder / "r.bag"
    with BagWriter(path) as bag:
        bag.chunk_threshold = 2000
        topic = bag.add_connection("/camera/front", "sensor_msgs/msg/Image", typestore=store)
        for n in range(8):
            bag.write(topic, START + n * 10**9, store.serialize_ros1(ros_image(store, n, n), "sensor_msgs/msg/Image"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path, "yard"


def ros_image(store, n, *sequence):
    """A picture of one grey; ROS 1 numbers it."""
    kinds = store.types
    header = kinds["std_msgs/msg/Header"](*sequence, kinds["builtin_interfaces/msg/Time"](1_700_000_000 + n, 0), "cam")
    return kinds["sensor_msgs/msg/Image"](header, 16, 16, "rgb8", 0, 48, np.full(16 * 16 * 3, n, np.uint8))


def sqlite_bag(folder):
    """A ROS 2 bag of 24 messages, several a page: its file, and what that holds."""
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as BagWriter
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    with BagWriter(folder / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        topic = bag.add_connection("/camera/front", "sensor_msgs/msg/Image", typestore=store)
        for n in range(24):
            bag.write(topic, START + n * 10**9, store.serialize_cdr(ros_image(store, n), "sensor_msgs/msg/Image"))
    (path,) = (folder / "bag").glob("*.db3")
    return path, path.read_bytes()


def truncated_sqlite(folder, _made):
    path, content = sqlite_bag(folder)
    path.write_bytes(content[:-5000])
    return path, "yard"


def spoilt_sqlite(folder, _made):
    path, content = sqlite_bag(folder)
    page = content.index(b"\x09" * 700) // 4096 * 4096
    path.write_bytes(content[:page] + bytes(8) + content[page + 8 :])
    return path, "yard"


def truncated_pcap(folder, _made):
    from fusion.recording.velodyne.synthetic import packet

    path = folder / "r.pcap"
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for n in range(400):
            data = packet(n)
            out.write(struct.pack("<IIII", 1_700_000_000, n * 1_330_000, len(data), len(data)) + data)
    path.write_bytes(path.read_bytes()[:-500])
    return path, "kitti"


SALVAGED = {
    "truncated MCAP": (truncated_mcap, r"r\.mcap: damaged at byte \d+: the file ends inside a record"),
    "MCAP without its index": (missing_index, r"r\.mcap: damaged at byte \d+"),
    "bad checksum of a chunk": (bad_checksum, r"r\.mcap: damaged at byte \d+: a chunk"),
    "unsorted times": (unsorted_time, r"r\.mcap: reading 4 \(front\): its time goes back by 0\.1 s; left out"),
    "a clock set back": (time_back, r"reading 4 \(front\): its time goes back by 3599\.9 s, and goes on from there"),
    "a clock set on": (time_forward, r"reading 4 \(front\): its time jumps on by 86400\.1 s, and goes on from there"),
    "one time of another day": (lone_time, r"reading 3 \(front\): its time jumps on by 86400\.1 s; left out"),
    "half a scan in a recording": (half_a_scan, r"message 2 \(/lidar/roof\) at byte \d+: .* no multiple"),
    "half a picture in a recording": (half_a_message, r"message 2 \(/camera/front\) at byte \d+: .*; left out"),
    "half a picture in a folder": (half_a_picture, r"images/1\.png: not a picture that can be decoded"),
    "truncated sound": (truncated_wav, r"r\.wav: .*ends 8000 bytes before the end|ends 8000 bytes before the end"),
    "truncated ROS bag": (truncated_bag, r"r\.bag: damaged at byte \d+"),
    "truncated SQLite file of a bag": (truncated_sqlite, r"bag\.db3: cut off at byte \d+ of \d+; .*all rows behind$"),
    "damaged page of such a file": (spoilt_sqlite, r"damaged behind row \d+ \(page \d+ at byte \d+: .*up to \d rows"),
}


@pytest.mark.parametrize("kind", SALVAGED)
def test_refused_with_one_line_or_salvaged_as_far_as_sound(kind, tmp_path, made):
    make, told = SALVAGED[kind]
    path, task_name = make(tmp_path, made)
    task = Task.load(task_name)
    with pytest.raises(FusionError) as caught:
        list(open_job(Job("r", str(path)), task).readings())
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    reader = open_job(Job("r", str(path), salvage=True), task)
    found = list(reader.readings())
    info = reader.info()
    assert found
    assert re.search(told, info.damage), info.damage
    assert "\n" not in info.damage
    counts = {name: sensor.count for name, sensor in info.sensors.items() if sensor.count}
    assert counts == {name: sum(r.sensor == name for _, r in found) for name in counts}
    assert len(found) == sum(counts.values())
    assert [cursor for cursor, _ in found] == sorted({cursor for cursor, _ in found})


def empty_mcap(folder):
    path = folder / "r.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.finish()
    return path


def no_frames(folder):
    """Channels, but no message."""
    path = folder / "r.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        kind = CompressedImage.DESCRIPTOR.full_name
        schema = writer.register_schema(kind, "protobuf", descriptor_set(CompressedImage))
        writer.register_channel("/camera/front", "protobuf", schema)
        writer.finish()
    return path


def no_sound(folder):
    path = folder / "r.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
    return path


def other_topics(folder):
    with RecordingWriter(folder / "r.mcap", None, "yard") as writer:
        writer.camera("rear", START, Image(np.zeros((8, 8, 3), np.uint8)))
    return folder / "r.mcap"


def cut_to_nothing(folder):
    path = other_topics(folder)
    path.write_bytes(path.read_bytes()[:30])
    return path


REFUSED = {
    "a recording without topics": (empty_mcap, "no sensor of task yard"),
    "0 frames": (no_frames, "no readings in it; there is nothing to run"),
    "sound of length 0": (no_sound, "no sound in it"),
    "none of the task's topics": (other_topics, r"no sensor of task yard \(front, roof, mic\); it has rear"),
    "nothing sound": (cut_to_nothing, "r.mcap"),
}


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_nothing_in_it_is_refused_even_then(kind, salvage, tmp_path):
    make, match = REFUSED[kind]
    with pytest.raises(FusionError, match=match) as caught:
        list(open_job(Job("r", str(make(tmp_path)), salvage=salvage), Task.load("yard")).readings())
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_missing_topic_is_an_absent_sensor(tmp_path):
    path, _ = timed(tmp_path / "r.mcap", [START])
    assert open_job(Job("r", str(path)), Task.load("yard")).info().sensors.keys() == {"front"}


def test_sound_of_length_0_between_others_is_sound(tmp_path):
    with RecordingWriter(tmp_path / "r.mcap", None, "yard") as writer:
        for n, length in enumerate((160, 0, 160)):
            writer.audio("mic", START + n, AudioChunk(np.zeros(length, np.int16), 16_000))
    reader = open_job(Job("r", str(tmp_path / "r.mcap")), Task.load("yard"))
    assert [len(r.payload.pcm) for _, r in reader.readings()] == [160, 0, 160]


def test_a_truncated_capture_is_refused_and_salvaged(tmp_path):
    source = Path(__file__).parents[3] / "../shared/data/ouster_pcap"
    captures = sorted(source.rglob("*.pcap")) if source.exists() else []
    if not captures:
        pytest.skip(f"{source} is not here")
    capture = min(captures, key=lambda path: path.stat().st_size)
    for beside in capture.parent.glob("*.json"):
        shutil.copy(beside, tmp_path)
    cut = tmp_path / capture.name
    cut.write_bytes(capture.read_bytes()[:-1000])
    with pytest.raises(FusionError, match=r"damaged at byte \d+: it ends inside a packet"):
        open_recording(cut)
    assert "it ends inside a packet" in open_recording(cut, salvage=True).info().damage


def test_every_kind_is_in_the_docs():
    text = DOCS.read_text(encoding="utf-8")
    kinds = (*SALVAGED, *REFUSED, "truncated capture", "half a scan in a folder", "a missing topic")
    assert [kind for kind in kinds if f"| {kind} |" not in text] == []
