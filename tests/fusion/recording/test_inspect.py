"""What a person is told of a recording, and how a recording's format is found."""

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.geometry import apply
from fusion.recording import SensorInfo, base, open_recording
from fusion.recording.inspect import inspect_recording, projection_picture
from fusion.recording.native.patrol import record_patrol
from fusion.recording.native.synthetic import START_NS, STEP_NS, synthetic_rig
from fusion.recording.native.writer import RecordingWriter
from fusion.types import AudioChunk, Image, Modality, PointCloud, Truth, TruthObject


def test_the_report_names_sensors_rates_sizes_and_places(small):
    text = str(inspect_recording(small))
    assert "1.20 s" in text
    assert "task yard" in text
    assert "96x64 jpeg" in text
    assert "16000 points" in text
    assert "16000 Hz, chunks of 100 ms" in text
    assert text.count("12 at  10.00 Hz") == 3
    assert "truth for 12 moments" in text
    assert "front: 96x64" in text
    assert "roof: at (0.10, 0.00, 1.60) m" in text


def test_sizes_are_those_of_the_messages(small):
    sizes = inspect_recording(small).sizes
    assert sizes["roof"] > 12 * 16_000 * 16
    assert 12 * 3200 < sizes["mic"] < 12 * 3300


def test_gaps_are_found_and_counted():
    times = [n * 100 for n in range(20) if n not in {5, 11, 12}]
    info = SensorInfo.of_times(Modality.LIDAR, "/lidar/roof", times[::-1])
    assert [(g.after_ns, g.before_ns, g.missing) for g in info.gaps] == [(400, 600, 1), (1000, 1300, 2)]
    assert (info.count, info.first_ns, info.last_ns) == (17, 0, 1900)
    assert info.rate_hz == pytest.approx(1e7)


@pytest.mark.parametrize("times", [[], [7], [7, 7]])
def test_too_few_times_have_no_rate(times):
    info = SensorInfo.of_times(Modality.CAMERA, "", times)
    assert (info.rate_hz, info.gaps, info.count) == (0.0, (), len(times))


def test_gaps_are_in_the_report(tmp_path):
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        for frame in (0, 1, 2, 3, 6, 7, 8):
            writer.camera("front", frame * STEP_NS, Image(np.zeros((8, 8, 3), np.uint8)))
    text = str(inspect_recording(tmp_path / "a.mcap"))
    assert "gap of about 2 readings after 0.300 s" in text
    assert "no calibration" in text


def test_damage_is_in_the_report_of_a_salvaged_file(small, tmp_path):
    data = small.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) // 2])
    assert "DAMAGED: " in str(inspect_recording(tmp_path / "cut.mcap", salvage=True))


def test_points_are_drawn_where_they_project_and_coloured_by_depth(tmp_path):
    rig = synthetic_rig()
    front = rig.cameras["front"]
    near_far = np.array([[3.0, 0.5, 1.0], [50.0, -10.0, 1.0]])
    lidar = apply(np.linalg.inv(rig.ego_from_lidar["roof"]), near_far)
    behind = np.array([[-5.0, 0, 0]])
    points = np.column_stack([np.vstack([lidar, behind]), np.ones(3)]).astype(np.float32)
    with RecordingWriter(tmp_path / "a.mcap", rig, "yard") as writer:
        writer.lidar("roof", START_NS, PointCloud(points))
        writer.camera("front", START_NS, Image(np.zeros((384, 640, 3), np.uint8)))
    projection_picture(tmp_path / "a.mcap", tmp_path / "a.png")
    drawn = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    (near, far), _ = front.project(near_far)
    red, _, blue = (int(v) for v in drawn[int(near[1]), int(near[0])])
    assert red > blue + 50
    red, _, blue = (int(v) for v in drawn[int(far[1]), int(far[0])])
    assert blue > red
    assert 5 <= (drawn.max(2) > 40).sum() <= 20, "two points of a few pixels each"


def test_points_are_not_drawn_into_a_picture_of_another_size_than_the_calibrations(tmp_path):
    with RecordingWriter(tmp_path / "a.mcap", synthetic_rig(), "yard") as writer:
        writer.lidar("roof", START_NS, PointCloud(np.ones((3, 4), np.float32)))
        writer.camera("front", START_NS, Image(np.zeros((192, 320, 3), np.uint8)))
    with pytest.raises(RecordingError, match=r"a\.mcap: camera 'front' delivered a picture of 320x192 .* for 640x384"):
        projection_picture(tmp_path / "a.mcap", tmp_path / "a.png")


def test_a_recording_without_calibration_cannot_be_projected(tmp_path):
    with RecordingWriter(tmp_path / "a.mcap", None, "yard") as writer:
        writer.camera("front", 1, Image(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(RecordingError, match="no calibrated camera and LiDAR"):
        projection_picture(tmp_path / "a.mcap", tmp_path / "a.png")


def test_an_unknown_format_names_the_known_ones(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"0 0 0\n")
    known = "known formats: .*image-folder, .*kitti-object, kitti-raw, .*mcap, .*nuscenes, .*rosbag, semantickitti"
    with pytest.raises(RecordingError, match=f"a.xyz: not a recording of a known format; {known}"):
        open_recording(tmp_path / "a.xyz")
    with pytest.raises(RecordingError, match="no such file"):
        open_recording(tmp_path / "gone.mcap")


def test_an_mcap_is_known_by_its_first_bytes_too(small, tmp_path):
    (tmp_path / "copy.bin").write_bytes(small.read_bytes())
    assert open_recording(tmp_path / "copy.bin").info().format == "mcap"


def test_a_split_of_an_mcap_is_refused(small):
    with pytest.raises(RecordingError, match="has no splits"):
        open_recording(small, split="test")


class _Point:
    """An installed reader of somebody else."""

    name, value = "aaa", "somebody:Reader"

    def __init__(self, outcome):
        self.outcome = outcome

    def load(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_a_reader_of_somebody_else_is_found(monkeypatch, tmp_path):
    class Reader:
        @staticmethod
        def can_read(path):
            return path.suffix == ".mine"

        @classmethod
        def open(cls, path, task, split, *, salvage):
            return ("opened", path, task, split, salvage)

    monkeypatch.setattr(base, "entry_points", lambda group: [_Point(Reader)])
    path = tmp_path / "a.mine"
    path.touch()
    assert open_recording(path, salvage=True) == ("opened", path, None, None, True)


def test_a_reader_that_cannot_be_loaded_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(base, "entry_points", lambda group: [_Point(ImportError("no module named somebody"))])
    with pytest.raises(RecordingError, match=r"reader 'aaa' \(somebody:Reader\) cannot be loaded"):
        open_recording(tmp_path)


class Moment:
    """What a simulator hands out."""

    def __init__(self, frame):
        self.time_ns = START_NS + frame * STEP_NS
        self.image = Image(np.full((384, 640, 3), frame, np.uint8))
        self.cloud = PointCloud(np.full((3, 4), frame / 7, np.float32))
        self.audio = AudioChunk(np.full(1600, frame, np.int16), 16000)
        self.rig = synthetic_rig()
        self.truth = Truth(self.time_ns, (TruthObject(1, "drum", "ok"),))


def test_a_patrol_is_recorded_as_it_is_simulated(tmp_path):
    seen = []

    def simulate():
        for frame in range(3):
            seen.append(frame)
            yield Moment(frame)

    record_patrol(simulate(), tmp_path / "p.mcap", total=3)
    assert seen == [0, 1, 2]
    reader = open_recording(tmp_path / "p.mcap")
    info = reader.info()
    assert info.task == "yard"
    assert {name: s.count for name, s in info.sensors.items()} == {"front": 3, "roof": 3, "mic": 3}
    sound = [r for _, r in reader.readings() if r.sensor == "mic"]
    assert [r.capture_time_ns for r in sound] == [START_NS + (n - 1) * STEP_NS for n in range(3)]
    assert [r.payload.pcm[0] for r in sound] == [0, 1, 2]
    sweeps = [r.payload.points for _, r in reader.readings() if r.sensor == "roof"]
    assert all(np.abs(points - n / 7).max() <= 1 / 128 for n, points in enumerate(sweeps))
    assert [t.time_ns for t in reader.truth()] == [START_NS + n * STEP_NS for n in range(3)]


def test_a_patrol_that_breaks_leaves_nothing(tmp_path):
    def simulate():
        yield Moment(0)
        raise RuntimeError("the world ended")

    with pytest.raises(RuntimeError, match="the world ended"):
        record_patrol(simulate(), tmp_path / "p.mcap", total=2)
    with pytest.raises(RecordingError, match="no samples"):
        record_patrol(iter(()), tmp_path / "p.mcap", total=0)
    assert list(tmp_path.iterdir()) == []
