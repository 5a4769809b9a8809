"""Cameras by PyAV: network streams, the kernel's video devices, and video files played as if they were cameras."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_node.live.drivers import Mount, library, shown
from fusion.errors import ConfigError, InputError, SensorError
from fusion.recording.media.video_frames import upright
from fusion.types import Image, Modality, Reading

OPEN_S, READ_S = 5.0, 2.0
"""How long a camera may take to answer, and to deliver the next packet."""
SEGMENT_S = 10.0
"""The latter for HLS, which delivers seconds of video at once."""
_PICTURE_S = 0.04
"""How long a film's last picture is seen where the film does not say its rate."""
_LOW_DELAY = {"flags": "low_delay"}
"""For cameras, which encode no frames out of order; a film may."""
_NETWORK = "tcp,udp,rtp,rtsp,rtmp,rtmps,http,https,httpproxy,tls,crypto,hls"
_OPTIONS = {
    "rtsp": {**_LOW_DELAY, "rtsp_transport": "tcp"},
    "rtmp": _LOW_DELAY,
    "file": {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"},
    "http": {"protocol_whitelist": _NETWORK},
    "https": {"protocol_whitelist": _NETWORK},
}


class CameraDriver:
    """Decodes the first video stream to upright RGB pictures.

    Capture time is when a picture was decoded on the host. What cannot be decoded is passed over, as it is
    where a stream is joined in the middle, and counted. A file is played at its own speed, over and over.
    """

    modality = Modality.CAMERA

    def __init__(self, url: str, mount: Mount, container: Any, av: Any) -> None:
        self._url, self._mount, self._container, self._av = url, mount, container, av
        self._closed = threading.Event()
        self._film = urlsplit(url).scheme == "file"
        self._wait = self._pace()

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Open a camera by URL. Raises `SensorError` when it does not answer or sends no video."""
        av = library("av", url)
        try:
            container = _opened(av, url, SEGMENT_S if urlsplit(url).path.lower().endswith(".m3u8") else READ_S)
            if "hls" in container.format.name.split(",") and container.read_timeout < SEGMENT_S:
                container.close()
                container = _opened(av, url, SEGMENT_S)
        except (av.error.FFmpegError, ValueError) as error:
            raise SensorError(f"{shown(url)}: cannot be opened ({_reason(error)})") from None
        if not container.streams.video:
            container.close()
            raise SensorError(f"{shown(url)}: no video in it")
        container.streams.video[0].thread_type = "SLICE"  # threads by frame would each hold one back
        return cls(url, mount, container, av)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`; it is this that lets go of the camera."""
        with self._container:
            again = True
            while again and not self._closed.is_set():
                again = False
                for packet in self._packets():
                    for reading in self._pictures(packet):
                        again = self._film
                        yield reading
                if again:
                    self._rewind()

    def close(self) -> None:
        """See `Driver`."""
        self._closed.set()

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._container.streams.video[0])
        while not self._closed.is_set():
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                raise self._broke_off(error) from None
            if packet is None:
                return
            yield packet

    def _rewind(self) -> None:
        """To the film's first picture, when the last one has been seen for as long as the others."""
        rate = self._container.streams.video[0].average_rate
        self._closed.wait(min(1.0, 1 / float(rate)) if rate else _PICTURE_S)
        try:
            self._container.seek(0)
        except self._av.error.FFmpegError as error:
            raise self._broke_off(error) from None
        self._wait = self._pace()

    def _broke_off(self, error: Exception) -> SensorError:
        return SensorError(f"{shown(self._url)}: broke off ({_reason(error)})")

    def _pictures(self, packet: Any) -> Iterator[Reading]:
        try:
            frames = packet.decode()
        except self._av.error.FFmpegError:
            self._mount.dropped("cannot be decoded", 1)
            return
        for frame in frames:
            self._wait(frame)
            arrived_ns = self._mount.now_ns()
            try:
                pixels = upright(frame)
            except (InputError, OSError, ValueError) as error:
                raise SensorError(f"{shown(self._url)}: {error}") from None
            yield self._mount.reading(arrived_ns, Image(pixels))

    def _pace(self) -> Callable[[Any], object]:
        """Waits until a frame of a film is due."""
        if not self._film:
            return lambda _: None
        began: list[float] = []

        def wait(frame: Any) -> None:
            now = self._mount.now_ns() / 1e9
            if frame.time is not None:
                began[:] = began or [now - frame.time]
                self._closed.wait(max(0.0, min(1.0, began[0] + frame.time - now)))

        return wait


def _opened(av: Any, url: str, read_s: float) -> Any:
    where, kind, options = _request(url)
    return av.open(where, format=kind, options=options, timeout=(OPEN_S, read_s))


def _request(url: str) -> tuple[str, str | None, dict[str, str]]:
    """What libav is to open, in which format (None: it looks), and with which options."""
    parts = urlsplit(url)
    if parts.scheme in {"file", "v4l2"} and (parts.netloc or not parts.path.strip("/")):
        raise ConfigError(f"{shown(url)}: no absolute path; write {parts.scheme}:///PATH")
    if parts.scheme == "v4l2":
        return unquote(parts.path), "v4l2", dict(parse_qsl(parts.query))
    where = unquote(parts.path) if parts.scheme == "file" else url
    return where, None, _OPTIONS.get(parts.scheme, {})


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()
