"""Cameras behind a pipeline: real ones of GStreamer's test source, that break, hang and are closed."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
import warnings

import numpy as np
import psutil
import pytest

from edge_node.live import gstreamer
from edge_node.live.drivers import Mount, driver_class
from edge_node.live.gstreamer import PROGRAM, PipelineDriver
from fusion.errors import ConfigError, SensorError
from fusion.task import Task

from .conftest import eye, until

MOUNT = Mount("front", Task.load("yard").sensors["front"], time.time_ns)
LIVE = "gst:videotestsrc is-live=true pattern=red ! video/x-raw,width=64,height=48,framerate=50/1"


@pytest.fixture
def _launcher():
    if shutil.which(PROGRAM) is None:
        missing = f"NOT TESTED: cameras by GStreamer need {PROGRAM}; run  apt-get install gstreamer1.0-tools"
        warnings.warn(missing, stacklevel=1)
        pytest.skip(missing)


def _processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if PROGRAM in " ".join(p.cmdline())]


@pytest.mark.usefixtures("_launcher")
def test_pictures_come_as_the_pipeline_makes_them_and_closing_ends_it():
    assert driver_class(LIVE) is PipelineDriver
    driver = driver_class(LIVE).open(LIVE, MOUNT)
    before, seen = time.time_ns(), []
    for reading in driver.readings():
        seen.append(reading)
        if len(seen) == 10:
            thread = threading.Thread(target=driver.close)
            thread.start()
            thread.join()
    assert len(seen) <= 11  # one may be on its way
    pixels = seen[-1].payload.pixels
    assert (pixels.shape, pixels.dtype, seen[-1].sensor) == ((48, 64, 3), np.uint8, "front")
    assert np.abs(pixels.mean((0, 1)) - (255, 0, 0)).max() < 4
    times = [reading.capture_time_ns for reading in seen]
    assert times == sorted(times)
    assert before < times[-1] < time.time_ns()
    assert _processes() == []


@pytest.mark.usefixtures("_launcher")
@pytest.mark.parametrize("form", ["GRAY8", "BGRx", "YUY2", "NV12"])
def test_whatever_form_its_pictures_have_they_become_rgb(form):
    url = f"gst:videotestsrc num-buffers=3 pattern=white ! video/x-raw,format={form},width=64,height=48"
    (*_, last) = driver_class(url).open(url, MOUNT).readings()
    assert last.payload.pixels.shape == (48, 64, 3)
    assert last.payload.pixels.mean() > 230  # GStreamer paints a grey white in the range of video
    assert _processes() == []


@pytest.mark.usefixtures("_launcher")
def test_one_that_hangs_has_broken_off(monkeypatch):
    monkeypatch.setattr(gstreamer, "READ_S", 0.5)
    driver = driver_class(LIVE).open(LIVE, MOUNT)
    readings = driver.readings()
    next(readings)
    (process,) = _processes()
    process.suspend()
    with pytest.raises(SensorError, match=r"^gst:videotestsrc .*: no picture for 0\.5 s$"):
        list(itertools.islice(readings, 100))
    until(lambda: not process.is_running())


@pytest.mark.usefixtures("_launcher")
def test_one_that_is_killed_comes_back(live):
    source = live(eye(url=LIVE))
    readings = source.readings(0)
    next(readings)
    (process,) = _processes()
    process.kill()
    until(lambda: source.told()["front"]["restarts"] >= 1)
    assert "its pipeline ended with code -9" in source.told()["front"]["why"]
    frames = source.told()["front"]["frames"]
    threading.Thread(target=lambda: list(itertools.islice(readings, 20)), daemon=True).start()
    until(lambda: source.told()["front"]["frames"] > frames + 3)


@pytest.mark.usefixtures("_launcher")
def test_one_that_is_closed_before_it_is_read_is_let_go_of():
    driver = driver_class(LIVE).open(LIVE, MOUNT)
    driver.close()
    driver.close()
    assert _processes() == []
    assert list(driver.readings()) == []


@pytest.mark.usefixtures("_launcher")
def test_no_secret_of_a_pipeline_is_told():
    url = "gst:videotestsrc user-pw=hushhush name='x y' ! nosuchsource location=rtsp://me:hush@cam/s token=\"a b\""
    with pytest.raises(SensorError) as caught:
        driver_class(url).open(url, MOUNT)
    told = str(caught.value)
    assert "hush" not in told
    assert "a b" not in told
    assert "user-pw=***" in told
    assert "rtsp://***@cam/s token=***" in told
    assert "no property" in told or "no element" in told


@pytest.mark.usefixtures("_launcher")
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("gst:nosuchsource ! video/x-raw", 'no element "nosuchsource"'),
        ("csi://0?video_size=640x480&framerate=30000/1001", 'no element "nvarguscamerasrc"'),
        ("gst:filesrc location=/nowhere.mp4 ! decodebin", "decodebin: Resource not found"),
        ("gst:audiotestsrc num-buffers=3", "could not link queue0 to videoconvert0"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(url, told):
    with pytest.raises(SensorError) as caught:
        driver_class(url).open(url, MOUNT)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _processes() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("gst:", "no pipeline; write gst:SOURCE ! ..."),
        ("gst:videotestsrc !", "no pipeline; write gst:SOURCE ! ..."),
        ("gst:videotestsrc pattern='red", "no closing quotation"),
        ("csi://front", "no camera's number; write csi://0"),
        ("csi://0?video_size=big", "video_size=big; write it as 1280x720"),
        ("csi://0?framerate=fast", "framerate=fast; write it as 30 or 30000/1001"),
        ("csi://0?gain=3", "unknown key 'gain'"),
    ],
)
def test_urls_that_cannot_be_meant(url, told):
    with pytest.raises(ConfigError) as caught:
        driver_class(url).open(url, MOUNT)
    assert told in str(caught.value)


def test_without_gstreamer_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SensorError, match=r"needs gst-launch-1\.0, which is missing; install gstreamer1\.0-tools"):
        PipelineDriver.open(LIVE, MOUNT)
