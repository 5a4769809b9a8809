"""Video files as recordings: order and times of frames, sound beside them, resuming."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.task import Task
from fusion.types import Modality

VIDEO = Path(__file__).parents[4] / "../shared/data/video"
FRAME_NS = 40_000_000
KINDS = [
    ("a.mp4", "libx264", "aac"),
    ("a.mov", "libx264", "pcm_s16le"),
    ("a.mkv", "libx264", "aac"),
    ("a.avi", "libx264", "aac"),
    ("b.avi", "mpeg4", "mp2"),
    ("a.webm", "libvpx", "libopus"),
    ("b.webm", "libvpx-vp9", "libopus"),
]


def frames(path, **how):
    return [r for _, r in open_recording(path, **how).readings() if r.modality is Modality.CAMERA]


def chunks(path, **how):
    return [r for _, r in open_recording(path, **how).readings() if r.modality is Modality.SPEECH]


def middle(reading):
    return int(reading.payload.pixels[24:, 20:].mean())


def same(a, b):
    data = [r.payload.pixels if r.modality is Modality.CAMERA else r.payload.pcm for r in (a, b)]
    return (a.sensor, a.capture_time_ns) == (b.sensor, b.capture_time_ns) and np.array_equal(*data)


@pytest.mark.parametrize(("name", "codec", "sound"), KINDS)
def test_frames_come_in_the_order_they_are_shown_and_sound_beside_them(make_video, name, codec, sound):
    path = make_video(name, codec, sound=sound, rate=48_000 if sound == "libopus" else 44_100)
    found = list(open_recording(path).readings())
    assert [cursor for cursor, _ in found] == list(range(1, len(found) + 1))
    times = [r.capture_time_ns for _, r in found]
    assert times == sorted(times)
    shown = [r for _, r in found if r.sensor == "camera"]
    assert [r.capture_time_ns for r in shown] == [n * FRAME_NS for n in range(40)]
    assert all(abs(middle(r) - (n * 6) % 240) < 8 for n, r in enumerate(shown))
    heard = [r for _, r in found if r.sensor == "microphone"]
    assert [r.capture_time_ns for r in heard] == [n * 100_000_000 for n in range(len(heard))]
    pcm = np.concatenate([r.payload.pcm for r in heard])
    assert 1.6 <= len(pcm) / 16_000 < 1.7
    spectrum = np.abs(np.fft.rfft(pcm[1600:17_600]))
    assert int(spectrum.argmax()) == 500
    assert pcm[1600:17_600].std() == pytest.approx(8_000 / 2**0.5, rel=0.05)


@pytest.mark.parametrize(("name", "codec", "sound"), KINDS)
def test_reading_goes_on_at_a_cursor(make_video, name, codec, sound):
    path = make_video(name, codec, sound=sound, rate=48_000 if sound == "libopus" else 44_100)
    whole = list(open_recording(path).readings())
    for start in (1, 17, 18, 20, 35, len(whole) - 1, len(whole), len(whole) + 5):
        rest = list(open_recording(path).readings(start))
        assert [c for c, _ in rest] == [c for c, _ in whole[start:]]
        assert all(same(a, b) for (_, a), (_, b) in zip(rest, whole[start:], strict=True))


def test_a_later_cursor_decodes_less(make_video, monkeypatch):
    path = make_video("a.mp4")
    reader = open_recording(path)
    packets = []
    decode = reader._file.decode
    monkeypatch.setattr(reader._file, "decode", lambda packet: packets.append(packet) or decode(packet))
    assert [c for c, _ in reader.readings(38)] == [39, 40]
    assert len(packets) <= 12


def test_a_variable_frame_rate_stays(make_video):
    stamps = [0, 1, 2, 7, 8, 30, 31, 90]
    for name in ("a.mp4", "a.mkv"):
        path = make_video(name, stamps=stamps)
        assert [r.capture_time_ns for r in frames(path)] == [stamp * FRAME_NS for stamp in stamps]
        assert [(gap.after_ns, gap.before_ns) for gap in open_recording(path).info().sensors["camera"].gaps][-1] == (
            31 * FRAME_NS,
            90 * FRAME_NS,
        )


def test_times_begin_at_0_and_are_exact(make_video):
    path = make_video("a.mp4", stamps=range(7, 12))
    assert [r.capture_time_ns for r in frames(path)] == [n * FRAME_NS for n in range(5)]
    with av.open(str(path)) as container:
        assert container.streams.video[0].time_base.denominator % 25 == 0


def test_sound_after_a_gap_is_at_its_own_time(make_video):
    path = make_video("a.mkv", sound="pcm_s16le", rate=16_000, seconds=1.0, gap=(0.5, 0.25))
    heard = chunks(path)
    edge = -(-8_000 // 1024) * 1024  # samples before the gap
    times = [r.capture_time_ns for r in heard]
    assert times[:6] == [n * 100_000_000 for n in range(6)]
    assert abs(times[6] - round((edge / 16_000 + 0.25) * 1e9)) <= 1_000_000
    assert sum(len(r.payload.pcm) for r in heard) == 16_000
    whole = list(open_recording(path).readings())
    for start in range(0, len(whole), 7):
        assert all(
            same(a, b) for (_, a), (_, b) in zip(open_recording(path).readings(start), whole[start:], strict=True)
        )


def test_exact_samples_where_nothing_is_converted(make_video):
    path = make_video("a.mov", sound="pcm_s16le", rate=16_000, seconds=1.0)
    tone = (8_000 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)).astype(np.int16)
    assert np.array_equal(np.concatenate([r.payload.pcm for r in chunks(path)]), tone)


@pytest.mark.parametrize(("turn", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_frames_are_turned_as_the_file_says(make_video, turn, corner):
    first = frames(make_video("a.mp4", turn=turn))[0].payload.pixels
    assert first.shape == ((48, 64, 3) if turn == 180 else (64, 48, 3))
    red = first[corner]
    assert red[0] > 200
    assert red[1] < 60


def test_the_sensors_are_the_tasks_only_ones(make_video):
    path = make_video("a.mp4", sound="aac")
    assert {r.sensor for _, r in open_recording(path, Task.load("yard")).readings()} == {"front", "mic"}
    assert {r.sensor for _, r in open_recording(path, Task.load("pcb")).readings()} == {"line", "microphone"}
    with pytest.raises(RecordingError, match="a video file has no splits"):
        open_recording(path, None, "test")


def test_what_is_not_read_is_told(make_video, tmp_path):
    path = make_video("a.mkv", sound="aac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "two.mkv"), "w") as out:
        video, sound = source.streams
        copies = {0: [out.add_stream_from_template(video)], 1: [out.add_stream_from_template(sound) for _ in "ab"]}
        for packet in source.demux():
            for copy in copies[packet.stream.index] if packet.size else []:
                packet.stream = copy
                out.mux(packet)
    assert open_recording(tmp_path / "two.mkv").info().unread == ("audio track 2",)


def test_a_missing_library_is_named(make_video, monkeypatch):
    path = make_video("a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RecordingError, match=r"needs av, which is missing; install fusion-stack\[formats\]"):
        open_recording(path)


@pytest.mark.parametrize(
    ("name", "count", "step_ns", "size", "sound"),
    [
        ("car-detection.mp4", 377, 80_000_000, (432, 768), 302),
        ("kitti_0052_image02_78frames_10Hz.mp4", 78, 100_000_000, (374, 1242), 0),
    ],
)
def test_real_videos(name, count, step_ns, size, sound, tmp_path):
    path = VIDEO / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    reader = open_recording(path)
    info = reader.info()
    camera = info.sensors["camera"]
    assert (camera.count, camera.last_ns, camera.gaps) == (count, (count - 1) * step_ns, ())
    assert camera.rate_hz == pytest.approx(1e9 / step_ns)
    if sound:
        assert info.notes["created"] == "2018-04-19T22:46:00.000000Z"
        assert info.sensors["microphone"].count == sound
    last = [r for _, r in reader.readings(camera.count + sound - 4)]
    assert [r.capture_time_ns for r in last if r.sensor == "camera"][-1] == (count - 1) * step_ns
    assert last[0].payload.pixels.shape == (*size, 3) if last[0].sensor == "camera" else True
    if not sound:
        done = convert(path, tmp_path / "a.mcap")
        assert done.readings == {"camera": count}
        assert open_recording(tmp_path / "a.mcap").info().sensors["camera"].count == count
