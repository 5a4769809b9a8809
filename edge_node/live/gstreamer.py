"""Cameras by GStreamer: what only its plugins open, such as the CSI cameras and the hardware decoders of a Jetson.

`gst-launch-1.0` runs the pipeline in a process of its own and writes pictures as raw Matroska into a pipe, which PyAV
reads. So no Python bindings are needed, and a camera stack that crashes or hangs is a sensor that broke off.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import urlsplit

from edge_node.live.camera import OPEN_S, READ_S, CameraDriver
from edge_node.live.drivers import WAIT_S, Mount, library, query, secrets, shown
from edge_node.process import end_process
from fusion.errors import ConfigError, SensorError
from fusion.types import Modality, Reading

PROGRAM = "gst-launch-1.0"
_CSI = (
    "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),width={width},height={height},framerate={rate} "
    "! nvvidconv ! video/x-raw,format=I420"
)
"""NVIDIA's source for cameras on a Jetson's CSI port, out of its own memory."""
_KEPT = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0"
"""A reader that is behind gets the newest picture."""
_WRITTEN = "videoconvert ! video/x-raw,format=(string){I420,RGB,GRAY8} ! matroskamux streamable=true ! fdsink fd="
_MOST_BYTES = 1 << 20
_END_S = 2.0
_LAST_LINES, _LONGEST_LINE = 100, 2000
_NOISE = re.compile(r"^(erroneous pipeline:|from element \S+:)\s*", re.IGNORECASE)


class PipelineDriver:
    """A camera behind a pipeline. Capture time is when a picture was decoded on the host, as of `CameraDriver`."""

    modality = Modality.CAMERA

    def __init__(self, camera: CameraDriver, running: _Running) -> None:
        self._camera, self._running = camera, running
        self._lock, self._begun = threading.Lock(), False

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Start `gst:PIPELINE` or `csi://NUMBER`. Raises `SensorError` when it cannot start or sends no picture."""
        pipeline, av = _pipeline(url), library("av", url)
        program = shutil.which(PROGRAM)
        if program is None:
            raise SensorError(f"{shown(url)}: needs {PROGRAM}, which is missing; install gstreamer1.0-tools")
        running = _Running(url, program, pipeline)
        try:
            container = av.open(running, format="matroska", buffer_size=_MOST_BYTES)
        except (av.error.FFmpegError, ValueError, SensorError) as error:
            said = running.ended()
            if isinstance(error, SensorError) and not said:
                raise
            raise SensorError(f"{shown(url)}: {said or 'sends no pictures'}") from None
        except BaseException:
            running.end()
            raise
        running.limit_s = READ_S
        return cls(CameraDriver(url, mount, container, av), running)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`; it is this that ends the pipeline."""
        with self._lock:
            self._begun = True
        try:
            if self._running.closed.is_set():
                return
            yield from self._camera.readings()
            if said := self._running.ended():
                raise SensorError(f"{shown(self._running.url)}: {said}")
        finally:
            self._running.end()

    def close(self) -> None:
        """See `Driver`."""
        self._camera.close()
        with self._lock:
            self._running.closed.set()
            if not self._begun:
                self._running.end()


class _Running:
    """The pipeline's process, as a file of what it writes: `read` waits for at most `limit_s`."""

    def __init__(self, url: str, program: str, pipeline: list[str]) -> None:
        self.url, self.limit_s, self.closed = url, OPEN_S, threading.Event()
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._secrets = secrets(pipeline)
        self._read, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [program, "-q", *pipeline, "!", *_KEPT.split(), "!", *f"{_WRITTEN}{write}".split()],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(write,),
            )  # fmt: skip
        except OSError as error:
            os.close(self._read)
            raise SensorError(f"{shown(url)}: {program} cannot be started ({error.strerror})") from None
        finally:
            os.close(write)
        self._ended = False
        self._listener = threading.Thread(target=self._listen, name="gstreamer", daemon=True)
        self._listener.start()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end. Raises `SensorError` when nothing comes for too long."""
        until = time.monotonic() + self.limit_s
        while not self.closed.is_set():
            ready, _, _ = select.select([self._read], [], [], WAIT_S)
            if ready:
                return os.read(self._read, min(size, _MOST_BYTES))
            if time.monotonic() > until:
                raise SensorError(f"{shown(self.url)}: no picture for {self.limit_s:g} s")
        return b""

    def ended(self) -> str:
        """End it; what went wrong, if it ended on its own."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(WAIT_S)
        code, said = self._process.poll(), self._words()
        self.end()
        return (said or f"its pipeline ended with code {code}") if code else ""

    def end(self) -> None:
        """Let go of the camera; more than once."""
        if self._ended:
            return
        self._ended = True
        end_process(self._process)
        self._listener.join(_END_S)
        os.close(self._read)

    def _listen(self) -> None:
        """Keep the newest lines that the program writes."""
        assert self._process.stdout is not None
        with self._process.stdout as said:
            while line := said.readline(_LONGEST_LINE):
                self._lines.append(line.decode(errors="replace").rstrip())

    def _words(self) -> str:
        """The first error of the lines that the program wrote last (others follow from it), else the first warning,
        without its preamble.
        """
        self._listener.join(WAIT_S)
        lines = tuple(self._lines)
        for level in ("ERROR:", "WARNING:"):
            for line in lines:
                if line.startswith(level):
                    words = _NOISE.sub("", line.removeprefix(level).strip()).rstrip(".")
                    for secret in self._secrets:
                        words = words.replace(secret, "***")
                    return words
        return ""


def _pipeline(url: str) -> list[str]:
    """What the URL asks for, as arguments of `gst-launch-1.0`. Raises `ConfigError`."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "csi":
        return _csi(url).split()
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise ConfigError(f"{shown(url)}: {str(error).lower()}; write gst:SOURCE ! ... as for {PROGRAM}") from None
    if not words or words[0] == "!" or words[-1] == "!":
        raise ConfigError(f"{shown(url)}: no pipeline; write gst:SOURCE ! ... as for {PROGRAM}, without a sink")
    return words


def _csi(url: str) -> str:
    parts, asked = urlsplit(url), query(url, ("video_size", "framerate"))
    if not parts.netloc.isdecimal() or parts.path.strip("/"):
        raise ConfigError(f"{shown(url)}: no camera's number; write csi://0")
    size, rate = asked.get("video_size", "1280x720"), asked.get("framerate", "30")
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if not found:
        raise ConfigError(f"{shown(url)}: video_size={size}; write it as 1280x720")
    if not re.fullmatch(r"\d{1,6}(/\d{1,4})?", rate):
        raise ConfigError(f"{shown(url)}: framerate={rate}; write it as 30 or 30000/1001")
    told: dict[str, Any] = {"number": parts.netloc, "width": found[1], "height": found[2]}
    return _CSI.format(rate=rate if "/" in rate else f"{rate}/1", **told)
