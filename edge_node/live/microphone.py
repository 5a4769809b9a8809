"""Microphones by PortAudio: `mic://default`, or `mic://NAME` for a device whose name has that in it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import numpy as np

from edge_node.live.drivers import WAIT_S, Mount, library, shown
from edge_node.live.sound import SoundTimes, duration_ns
from fusion.errors import SensorError
from fusion.types import AudioChunk, Modality, Reading

CHUNK_S = 0.1
"""As the reader of sound files makes them."""
_MAX_HELD, _GONE_S = 50, 2.0
_LOOK_S = 10.0
"""How often at most the system's devices are listed anew."""


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """A chunk, when its first sample was heard by the time of arrival, and whether sound was lost before it."""

    chunk: AudioChunk
    start_ns: int
    lost: bool


@dataclass(slots=True)
class _Library:
    """PortAudio, which lists the devices once: one plugged in later is found when the library is begun anew.

    That ends every stream, so it is done while none is open. For a fraction of a second it hides what anyone writes to
    standard error, so it is not done at each try.
    """

    streams: int = 0
    looked_s: float = -_LOOK_S
    lock: threading.Lock = field(default_factory=threading.Lock)

    def started(self, sound: Any, **options: Any) -> Any:
        """A stream that runs."""
        with self.lock:
            try:
                stream = _running(sound.InputStream(**options))
            except (sound.PortAudioError, ValueError):
                self._look_anew(sound)
                raise
            self.streams += 1
            return stream

    def close(self, stream: Any) -> None:
        """End a stream."""
        stream.stop()
        with self.lock:
            stream.close()
            self.streams -= 1

    def _look_anew(self, sound: Any) -> None:
        if self.streams or time.monotonic() - self.looked_s < _LOOK_S:
            return
        for work in (sound._terminate, sound._initialize):  # there is no public way
            with contextlib.suppress(sound.PortAudioError):
                work()
        self.looked_s = time.monotonic()


def _running(stream: Any) -> Any:
    try:
        stream.start()
    except BaseException:
        stream.close()
        raise
    return stream


_LIBRARY = _Library()


class MicrophoneDriver:
    """Chunks of mono 16-bit sound at the task's rate.

    Capture time is that of the first sample (`SoundTimes`).
    """

    modality = Modality.SPEECH

    def __init__(self, url: str, mount: Mount) -> None:
        self._url, self._mount, self._closed = url, mount, threading.Event()
        self._rate_hz = mount.sensor.sample_rate_hz or 16_000
        self._heard: queue.Queue[_Heard] = queue.Queue(maxsize=_MAX_HELD)
        self._lost = False
        self._stream = self._started(library("sounddevice", url))

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Start recording. Raises `SensorError` where there is no such microphone."""
        return cls(url, mount)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`. Two seconds without a sample are a device that is gone."""
        times, quiet_s = SoundTimes(), 0.0
        try:
            while not self._closed.is_set():
                try:
                    heard = self._heard.get(timeout=WAIT_S)
                except queue.Empty:
                    quiet_s += WAIT_S
                    if quiet_s > _GONE_S or not self._stream.active:
                        raise SensorError(f"{shown(self._url)}: broke off (the device delivers no sound)") from None
                    continue
                quiet_s = 0.0
                yield self._mount.reading(times.start_ns(heard.chunk, heard.start_ns, lost=heard.lost), heard.chunk)
        finally:
            _LIBRARY.close(self._stream)

    def close(self) -> None:
        """See `Driver`."""
        self._closed.set()

    def _started(self, sound: Any) -> Any:
        device, rate_hz = unquote(urlsplit(self._url).netloc), self._rate_hz
        try:
            return _LIBRARY.started(
                sound, samplerate=rate_hz, channels=1, dtype="int16", blocksize=round(rate_hz * CHUNK_S),
                device=None if device == "default" else device, callback=self._take,
            )  # fmt: skip
        except (sound.PortAudioError, ValueError) as error:
            raise SensorError(f"{shown(self._url)}: cannot be opened ({' '.join(str(error).split())})") from None

    def _take(self, pcm: np.ndarray, _samples: int, _time: Any, status: Any) -> None:
        """Called by the library, in its own thread, with samples (n, 1) int16 that are its own."""
        chunk = AudioChunk(np.array(pcm[:, 0], np.int16), self._rate_hz)
        if status.input_overflow:
            self._lose()
        try:
            self._heard.put_nowait(_Heard(chunk, self._mount.now_ns() - duration_ns(chunk), self._lost))
            self._lost = False
        except queue.Full:
            self._lose()

    def _lose(self) -> None:
        self._lost = True
        self._mount.dropped("sound lost", 1)
