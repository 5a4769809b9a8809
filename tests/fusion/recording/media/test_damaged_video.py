"""Videos that are cut off, altered or no videos at all: one clear error, and what is sound when salvaging."""

import re

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.types import Modality


def frames(path, **how):
    return [(c, r) for c, r in open_recording(path, **how).readings() if r.modality is Modality.CAMERA]


def in_front(path):
    """Put an MP4's index before its data, so that it can be cut off."""
    out = path.with_name("front.mp4")
    with av.open(str(path)) as source, av.open(str(out), "w", options={"movflags": "faststart"}) as target:
        copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return out


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm"])
def test_a_file_that_ends_early(make_video, name):
    path = make_video(name, "libvpx" if name == "a.webm" else "libx264")
    path = in_front(path) if name == "a.mp4" else path
    whole = frames(path)
    with av.open(str(path)) as container:
        end = [packet.pos for packet in container.demux(video=0) if packet.size][30] + 3
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(RecordingError, match=rf"{path.name}: the file ends \d+ bytes before the end that its headers"):
        open_recording(path)
    found = frames(path, salvage=True)
    info = open_recording(path, salvage=True).info()
    assert 5 < len(found) < 40
    assert all(np.array_equal(a[1].payload.pixels, b[1].payload.pixels) for a, b in zip(found, whole, strict=False))
    assert "the file ends" in info.damage
    assert info.sensors["camera"].count == len(found)


def test_an_altered_stretch_is_named_with_its_time_and_passed_over_up_to_the_next_keyframe(make_video):
    path = make_video("a.mp4", stamps=range(60))
    whole = dict(frames(path))
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    start, size, _ = packets[14]
    data[start + 4 : start + size] = b"\xff" * (size - 4)
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"a.mp4: .*at 0\.\d+ s"):
        frames(path)
    found = dict(frames(path, salvage=True))
    assert 40 < len(found) < 60
    assert set(range(37, 61)) <= set(found)
    assert all(np.array_equal(found[c].payload.pixels, whole[c].payload.pixels) for c in found)
    info = open_recording(path, salvage=True).info()
    assert re.search(r"at 0\.\d+ s", info.damage)
    assert info.sensors["camera"].count == len(found)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "libvpx"), ("a.webm", "libvpx")]
)
def test_frames_before_the_first_keyframe_are_left_out_and_counted(make_video, name, codec):
    path = make_video(name, codec)
    with av.open(str(path)) as container:
        keys = [n for n, p in enumerate(p for p in container.demux(video=0) if p.size) if p.is_keyframe]
    whole = frames(path)
    cut = path.with_name(f"cut{path.suffix}")
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in [p for p in source.demux(video=0) if p.size][3:]:
            packet.stream = copy
            target.mux(packet)
    found = frames(cut)
    expected = [r for _, r in whole][keys[1] :]
    assert [np.array_equal(a.payload.pixels, b.payload.pixels) for (_, a), b in zip(found, expected, strict=True)] == [
        True
    ] * len(expected)
    info = open_recording(cut).info()
    assert info.notes["left out of camera"].startswith(f"{keys[1] - 3} frames before the first one")
    assert info.sensors["camera"].count == len(expected)
    assert "left out of camera" not in open_recording(path).info().notes


def test_no_video_stream(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    with pytest.raises(RecordingError, match=r"a.mkv: no video stream in it"):
        open_recording(path)


def test_no_frames(make_video):
    path = make_video("a.avi", "mpeg4", stamps=range(3))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"00dc", b"09dc"))
    with pytest.raises(RecordingError, match=r"a.avi: no frame in its video stream"):
        open_recording(path).info()


def test_a_codec_that_is_not_known(make_video):
    path = make_video("a.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(RecordingError, match=r"a.mp4: its video is in a codec that is not known here"):
        open_recording(path)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind" * 9, b"#EXTM3U\nhttp://localhost/x.ts\n"])
def test_no_video_at_all(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"a.mp4: not a video that can be read"):
        open_recording(path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["a.mp4", "a.mkv", "a.avi", "a.webm"]), st.data(), st.booleans())
def test_any_bytes_give_frames_or_a_recording_error(make_video, name, data, salvage):
    codec, sound = ("libvpx", "libopus") if name == "a.webm" else ("mpeg4", "aac")
    path = make_video(name, codec, stamps=range(6), sound=sound, rate=48_000, seconds=0.2)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=40)) + whole[cut + data.draw(st.integers(0, 60)) :])
    problem = name
    try:
        reader = open_recording(path, salvage=salvage)
        reader.info()
        cursors = [c for c, _ in reader.readings()]
        assert cursors == sorted(set(cursors))
    except RecordingError as error:
        problem = str(error)
    assert name in problem
