"""The camera driver on real video: a file as a camera, a server that goes away, and URLs that cannot be meant."""

from __future__ import annotations

import functools
import http.server
import itertools
import math
import threading
import time
from collections import Counter

import av
import numpy as np
import pytest

from edge_node.live import camera
from edge_node.live.camera import CameraDriver
from edge_node.live.drivers import Mount, driver_class
from fusion.errors import ConfigError, SensorError
from fusion.task import Task

from .conftest import eye, until

MOUNT = Mount("front", Task.load("yard").sensors["front"], time.time_ns)


@pytest.fixture
def film(tmp_path):
    """Eight frames of 64x48 at 20 Hz; the third and later are brighter."""
    path = tmp_path / "film of a yard.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            pixels = np.full((48, 64, 3), (200, 40, 20) if number > 1 else 0, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_file_is_played_at_its_own_speed_over_and_over(film):
    driver = CameraDriver.open(film.as_uri(), MOUNT)
    began = time.time_ns()
    readings = list(itertools.islice(driver.readings(), 20))
    times = np.array([reading.capture_time_ns - began for reading in readings]) / 1e9
    assert (times >= np.arange(20) * 0.05 - 0.01).all()
    assert (np.diff(times) > 0).all()
    assert times[-1] < 4
    pixels = readings[7].payload.pixels
    assert (pixels.shape, pixels.dtype) == ((48, 64, 3), np.uint8)
    assert np.abs(pixels.mean((0, 1)) - (200, 40, 20)).max() < 12
    assert [reading.payload.pixels.mean() < 40 for reading in readings] == ([True] * 2 + [False] * 6) * 2 + [
        True, True, False, False,
    ]  # fmt: skip


def test_closing_ends_it_from_another_thread(film):
    driver = CameraDriver.open(film.as_uri(), MOUNT)
    seen = []
    for reading in driver.readings():
        seen.append(reading)
        thread = threading.Thread(target=driver.close)
        thread.start()
        thread.join()
    assert len(seen) == 1
    driver.close()


def test_a_short_film_that_begins_again_is_no_sensor_that_fails(live, film):
    source = live(eye(url=film.as_uri()))
    readings = source.readings(0)
    seen = [reading for _, reading in itertools.islice(readings, 20)]
    stamps = [reading.capture_time_ns for reading in seen]
    assert stamps == sorted(stamps)
    assert source.told()["front"]["restarts"] == 0


def test_pictures_that_cannot_be_decoded_are_counted_and_a_film_without_others_ends(film):
    drops: Counter[str] = Counter()
    mount = Mount("front", MOUNT.sensor, time.time_ns, lambda reason, count: drops.update({reason: count}))
    damaged = bytearray(film.read_bytes())
    start = damaged.index(b"mdat") + 4
    size = int.from_bytes(damaged[start - 8 : start - 4], "big") - 8
    damaged[start : start + size] = bytes(255 - byte for byte in damaged[start : start + size])
    film.write_bytes(damaged)
    assert not list(CameraDriver.open(film.as_uri(), mount).readings())
    assert drops["cannot be decoded"] >= 8


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_stream_over_http_comes_back_when_its_server_does(live, film, free_port):
    handler = functools.partial(Quiet, directory=film.parent)
    source = live(eye(url=f"http://127.0.0.1:{free_port}/film%20of%20a%20yard.mp4"))
    readings = source.readings(0)
    assert source.told()["front"]["frames"] == 0
    frames = iter(lambda: next(readings)[1], None)
    seen: list = []
    threading.Thread(target=lambda: seen.extend(itertools.islice(frames, 3)), daemon=True).start()
    until(lambda: source.told()["front"]["restarts"] > 1)
    assert "cannot be opened (connection refused)" in source.told()["front"]["why"]
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        until(lambda: len(seen) == 3)
        source.close()
        server.shutdown()


class Segments(Quiet):
    """A stream over HLS: the second of its two segments is there `LATE_S` after the first was asked for."""

    LATE_S = 1.5

    def do_GET(self):
        if self.path.endswith(".ts"):
            self.server.asked_s = min(self.server.asked_s, time.monotonic())
            super().do_GET()
            return
        there = time.monotonic() - self.server.asked_s > self.LATE_S
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXTINF:1.0,", "0.ts"]
        lines += ["#EXTINF:1.0,", "1.ts", "#EXT-X-ENDLIST"] if there else []
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apple.mpegurl")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize("name", ["live.m3u8?key=k", "LIVE.M3U8", "live"])
def test_a_stream_over_hls_may_take_longer_for_a_segment(tmp_path, monkeypatch, name):
    monkeypatch.setattr(camera, "READ_S", 0.5)
    for number in range(2):
        with av.open(str(tmp_path / f"{number}.ts"), "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for n in range(40):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                frame.pts = number * 40 + n
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    handler = functools.partial(Segments, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked_s = math.inf
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver = CameraDriver.open(f"http://127.0.0.1:{server.server_port}/{name}", MOUNT)
        assert len(list(driver.readings())) == 80
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///nowhere.mp4", "file:///nowhere.mp4: cannot be opened (no such file or directory)"),
        ("v4l2:///dev/video99", "v4l2:///dev/video99: cannot be opened (no such file or directory)"),
        ("rtsp://me:secret@127.0.0.1:1/x", "rtsp://***@127.0.0.1:1/x: cannot be opened (connection refused)"),
        (
            "rtsp://me:p@s@127.0.0.1:1/x?key=k",
            "rtsp://***@127.0.0.1:1/x?key=***: cannot be opened (connection refused)",
        ),
    ],
)
def test_a_camera_that_is_not_there_is_one_line(url, told):
    assert driver_class(url) is CameraDriver
    with pytest.raises(SensorError) as caught:
        CameraDriver.open(url, MOUNT)
    assert str(caught.value) == told


def test_a_file_that_is_no_video_is_told(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a film" * 100)
    with pytest.raises(SensorError, match="cannot be opened"):
        CameraDriver.open(path.as_uri(), MOUNT)
    with pytest.raises(ConfigError, match="no absolute path; write file:///PATH"):
        CameraDriver.open("file://film.mp4", MOUNT)
