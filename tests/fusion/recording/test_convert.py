"""Whatever a reader gives becomes a native recording, in order, or an error that says why not."""

import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest

from fusion.cli import main
from fusion.errors import RecordingError
from fusion.geometry import rigid
from fusion.recording import RecordingInfo, SensorInfo, base, open_recording
from fusion.recording.base import EgoPose
from fusion.recording.convert import convert
from fusion.recording.native.recover import Recovery
from fusion.recording.native.stream import MessageScan
from fusion.recording.native.synthetic import synthetic_rig
from fusion.task import Task
from fusion.types import AudioChunk, Image, Modality, PointCloud, Reading, Truth, TruthObject

PICTURE = Image(np.full((8, 8, 3), 120, np.uint8))
CLOUD = PointCloud(np.ones((3, 4), np.float32), np.zeros(3, np.float32), np.arange(3, dtype=np.uint16))
SOUND = AudioChunk(np.arange(160, dtype=np.int16), 16_000)


class Reader:
    """A reader of somebody else, without poses: cameras `front` and `rear`, LiDAR `roof`, microphone `mic`."""

    times = (("mic", 0), ("roof", 100), ("front", 100), ("rear", 130), ("roof", 200), ("front", 200))
    truth_times = (100, 200, 300)

    def __init__(self, path, task, split, salvage):
        self.path, self.asked = path, (task, split, salvage)

    @staticmethod
    def can_read(path):
        return path.suffix == ".other"

    @classmethod
    def open(cls, path, task, split, *, salvage):
        return cls(path, task, split, salvage)

    def info(self):
        sensors = {
            name: SensorInfo.of_times(self.payload(name)[0], name, [t for n, t in self.times if n == name])
            for name in dict(self.times)
        }
        notes = {"licence": "none", "times": "nominal: made up", "asked": str(self.asked[1:])}
        return RecordingInfo(
            self.path, "other", "0123", 9, "yard", sensors, synthetic_rig(), 3, notes, ("/gps",), continuous=False
        )

    def payload(self, name):
        kinds = {"mic": (Modality.SPEECH, SOUND), "roof": (Modality.LIDAR, CLOUD)}
        return kinds.get(name, (Modality.CAMERA, PICTURE))

    def readings(self, start_cursor=0):
        for cursor, (name, time_ns) in enumerate(self.times, 1):
            modality, payload = self.payload(name)
            if cursor > start_cursor:
                yield cursor, Reading(name, modality, time_ns, payload)

    def truth(self):
        return (Truth(time, (TruthObject(1, "drum"),)) for time in self.truth_times)


class Posed(Reader):
    def poses(self):
        return (EgoPose(time, rigid(np.eye(3), np.array([time, 0.0, 0.0]))) for time in (90, 200))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A function: a source that `kind` reads."""

    def make(kind):
        class Point:
            name, value = "other", "somebody:Reader"

            def load(self):
                return kind

        found = base.entry_points
        monkeypatch.setattr(base, "entry_points", lambda group: [*found(group=group), Point()])
        path = tmp_path / "a.other"
        path.touch()
        return path

    return make


def topics(path):
    """Topic and time of every message but calibrations, in file order."""
    scan = MessageScan(path)
    found = [(scan.channels[m.channel].topic, m.time_ns) for m in scan.messages()]
    return [(topic, time) for topic, time in found if not topic.endswith("calibration")]


def test_everything_is_written_in_the_order_of_time(source, tmp_path):
    done = convert(source(Posed), tmp_path / "a.mcap")
    assert [t for t in topics(tmp_path / "a.mcap") if t != ("/tf", 0)] == [
        ("/audio/mic", 0),
        ("/tf", 90),
        *(("/lidar/roof", 100), ("/camera/front", 100), ("/truth", 100)),
        ("/camera/rear", 130),
        *(("/lidar/roof", 200), ("/camera/front", 200), ("/truth", 200), ("/tf", 200)),
        ("/truth", 300),
    ]
    assert done.readings == {"mic": 1, "roof": 2, "front": 2, "rear": 1}
    assert (done.truths, done.poses, done.format) == (3, 2, "other")
    assert str(done).endswith("a.mcap: from other, readings: 2 of front, 1 of mic, 1 of rear, 2 of roof; truth for 3 "
                              "moments; 2 poses; times nominal: made up")  # fmt: skip


def test_payloads_rig_and_notes_are_kept(source, tmp_path):
    convert(source(Reader), tmp_path / "a.mcap", Task.load("pcb"), "val")
    native = open_recording(tmp_path / "a.mcap")
    payloads = {r.sensor: r.payload for _, r in native.readings()}
    assert np.array_equal(payloads["mic"].pcm, SOUND.pcm)
    assert np.array_equal(payloads["roof"].labels, CLOUD.labels)
    assert np.abs(payloads["rear"].pixels.astype(int) - 120).max() < 3
    info = native.info()
    assert (info.task, info.continuous) == ("pcb", False)
    assert info.rig.cameras.keys() == {"front"}
    assert info.notes == {
        "source": "other a.other",
        "source-format": "other",
        "source-sha256": "0123",
        "licence": "none",
        "times": "nominal: made up",
        "asked": "('val', False)",
        "not-carried": "/gps",
    }


@pytest.mark.parametrize(
    ("times", "truth_times", "text"),
    [
        ((("front", 200), ("roof", 100), ("front", 199)), (), "front at 199 ns comes after front at 200 ns"),
        ((("front", 200),), (7, 6), "truth at 6 ns comes after truth at 7 ns"),
    ],
)
def test_what_comes_too_late_is_refused_or_left_out_and_told(source, tmp_path, times, truth_times, text):
    class Late(Reader):
        pass

    Late.times, Late.truth_times = times, truth_times
    path = source(Late)
    with pytest.raises(RecordingError, match=rf"a.other: {text}"):
        convert(path, tmp_path / "a.mcap")
    assert not list(tmp_path.glob("a.mcap*"))
    done = convert(path, tmp_path / "a.mcap", salvage=True)
    assert sum(done.late.values()) == 1
    assert "LEFT OUT" in str(done)


def test_readings_of_two_sensors_may_cross(source, tmp_path):
    class Crossed(Reader):
        times = (("front", 200), ("roof", 100), ("front", 201))

    assert convert(source(Crossed), tmp_path / "a.mcap").readings == {"front": 2, "roof": 1}


def test_one_reading_is_in_memory_at_a_time(source, tmp_path):
    class Many(Reader):
        def readings(self, start_cursor=0):
            for n in range(50):
                cloud = np.ones((40_000, 4), np.float32)
                yield n + 1, Reading("roof", Modality.LIDAR, n, PointCloud(cloud))

    tracemalloc.start()
    convert(source(Many), tmp_path / "a.mcap")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 640_000, "50 sweeps are 32 MB"


def test_a_native_recording_is_recovered_instead(small, tmp_path):
    done = convert(small, tmp_path / "a.mcap")
    assert isinstance(done, Recovery)
    assert "the source was whole" in str(done)


def test_a_native_recording_with_another_task_is_written_anew(small, tmp_path):
    done = convert(small, tmp_path / "a.mcap", Task.load("yard"))
    assert done.readings == {"front": 12, "mic": 12, "roof": 12}
    one, other = (list(open_recording(path).readings()) for path in (small, tmp_path / "a.mcap"))
    assert sorted((r.sensor, r.capture_time_ns) for _, r in one) == sorted(
        (r.sensor, r.capture_time_ns) for _, r in other
    )
    one, other = (list(open_recording(path).truth()) for path in (small, tmp_path / "a.mcap"))
    assert [(t.time_ns, t.intent, t.transcript) for t in one] == [(t.time_ns, t.intent, t.transcript) for t in other]


def test_the_source_is_never_overwritten(small, source):
    with pytest.raises(RecordingError, match="is the source itself"):
        convert(small, small)
    path = source(Reader)
    with pytest.raises(RecordingError, match="is the source itself"):
        convert(path, path)


def test_the_command_tells_in_one_line(tmp_path, capsys):
    scans = tmp_path / "00" / "velodyne"
    scans.mkdir(parents=True)
    np.ones((4, 4), np.float32).tofile(scans / "000000.bin")
    assert main(["convert", str(tmp_path / "00"), "-o", str(tmp_path / "a.mcap")]) == 0
    assert "from semantickitti, readings: 1 of velodyne; times nominal" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "a.mcap"), "--picture", str(tmp_path / "p.png")]) == 0
    assert "velodyne from above" in capsys.readouterr().out
    (scans / "000000.bin").write_bytes(bytes(17))
    assert main(["convert", str(tmp_path / "00"), "-o", str(tmp_path / "a.mcap")]) == 3
    assert "cut short after byte 16" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "00"), "-o", str(tmp_path / "a.mcap"), "--salvage"]) == 0
    assert "SALVAGED" in capsys.readouterr().out
    assert main(["convert", str(tmp_path), "--split", "3", "-o", str(tmp_path / "a.mcap")]) == 3


def test_an_image_folder_is_converted_with_task_and_split(tmp_path, capsys):
    for name in ("images", "labels"):
        (tmp_path / "boards" / name).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "boards/images/a.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "boards/labels/a.txt").write_text("1 2 30 40 1\n")
    (tmp_path / "boards/test.txt").write_text("a\n")
    out = tmp_path / "boards.mcap"
    options = ["--task", "pcb", "--split", "test"]
    assert main(["convert", str(tmp_path / "boards"), "-o", str(out), *options]) == 0
    native = open_recording(out)
    (truth,) = native.truth()
    assert truth.objects[0].label == Task.load("pcb").classes[0]
    assert (native.info().task, native.info().continuous) == ("pcb", False)
    assert main(["inspect", str(tmp_path / "boards"), *options]) == 0


def test_reading_data_sets_loads_no_torch():
    script = (
        "import sys, fusion.recording.convert\n"
        "import fusion.recording.driving.kitti_object, fusion.recording.driving.nuscenes\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'av', 'rosbags')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
