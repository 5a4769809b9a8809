"""Cameras, LiDARs and microphones by their ROS 2 topics: `ros2:///camera/front/image_raw`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Self

from edge_node.live.drivers import Mount, shown
from edge_node.live.handover import OVERTAKEN
from edge_node.live.ros2.address import TopicAddress
from edge_node.live.ros2.sound import JudgedSound
from edge_node.live.ros2.stamps import HeaderStamps
from edge_node.live.ros2.topic import Arrived, Topic
from edge_node.live.sound import SoundTimes, duration_ns
from fusion.errors import ConfigError, InputError, SensorError
from fusion.recording.points.point_fields import FieldRule
from fusion.recording.ros.clouds import cloud_rule
from fusion.recording.ros.messages import AUDIO, header_ns
from fusion.recording.ros.sound import RATE_HZ
from fusion.recording.ros.topics import MODALITIES, payload_of, why_no_camera
from fusion.types import AudioChunk, Modality, Payload, PointCloud, Reading

DEPTHS = {Modality.CAMERA: 5, Modality.LIDAR: 5, Modality.SPEECH: 50}
"""Messages that ROS holds for a driver that is busy; of pictures and sweeps it takes the newest alone."""
_WHAT = {Modality.CAMERA: "a camera", Modality.LIDAR: "a LiDAR", Modality.SPEECH: "sound"}
_log = logging.getLogger(__name__)


class Ros2Driver:
    """Readings of a topic, made as from a bag; which types are read depends on the sensor it is opened for.

    Capture time is the arrival on the host: of a sweep, that of its last point less the point's own time; of sound,
    less its length. With `?stamp=header` it is the header's stamp, where that can be meant. Messages that cannot be
    read are counted and passed over; the first is logged.
    """

    modality: Modality | None = None

    def __init__(self, address: TopicAddress, mount: Mount) -> None:
        """Raises `SensorError` where this Python has no ROS."""
        self._address, self._mount = address, mount
        kinds = [kind for kind, modality in MODALITIES.items() if modality is mount.modality]
        what = _WHAT[mount.modality]
        if address.stamped:
            kinds, what = [kind for kind in kinds if kind != AUDIO], f"{what} with stamps in headers"
        self._topic = Topic(address, kinds, what, mount.name, mount.now_ns, depth=DEPTHS[mount.modality])
        self._stamps = HeaderStamps(mount.dropped) if address.stamped else None
        self._rule: FieldRule | None = None
        self._seen = self._told = False

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """See `DriverClass`; the topic need not be there yet. Raises `ConfigError` for sound at another rate."""
        rate_hz = mount.sensor.sample_rate_hz
        if mount.modality is Modality.SPEECH and rate_hz not in {0, RATE_HZ}:
            raise ConfigError(f"{shown(url)}: sound of ROS is read at {RATE_HZ} Hz; {mount.name!r} has {rate_hz} Hz")
        return cls(TopicAddress.of(url), mount)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`."""
        if self._mount.modality is Modality.SPEECH:
            yield from self._sounds()
            return
        make = self._sweep if self._mount.modality is Modality.LIDAR else self._picture
        for batch in self._topic.arriving():
            if len(batch) > 1:
                self._mount.dropped(OVERTAKEN, len(batch) - 1)
            yield from self._read(batch[-1], make)

    def close(self) -> None:
        """See `Driver`."""
        self._topic.close()

    def _read(self, arrived: Arrived, make: Callable[[Arrived, int], tuple[int, Payload]]) -> Iterator[Reading]:
        """The reading of a message, or none: `make` tells when it was captured by its arrival, and what it carries."""
        try:
            stamp_ns = 0 if arrived.kind == AUDIO else header_ns(arrived.message.header)
            if self._stamps and not self._stamps.meant(stamp_ns, arrived.time_ns):
                return
            captured_ns, payload = make(arrived, stamp_ns)
        except InputError as error:
            self._pass_over(error)
            return
        yield self._mount.reading(stamp_ns if self._stamps else captured_ns, payload)

    def _picture(self, arrived: Arrived, stamp_ns: int) -> tuple[int, Payload]:
        if not self._seen and (why := why_no_camera(arrived.message)):
            raise self._no_sensor(why)
        self._seen = True
        return arrived.time_ns, payload_of(arrived.kind, arrived.message, FieldRule(), stamp_ns)[0]

    def _sweep(self, arrived: Arrived, stamp_ns: int) -> tuple[int, Payload]:
        rule = self._rule or self._rule_of(arrived.message)
        cloud, _ = payload_of(arrived.kind, arrived.message, rule, stamp_ns or arrived.time_ns)
        assert isinstance(cloud, PointCloud)
        offsets = cloud.offsets_s
        last_s = 0.0 if offsets is None or not offsets.size else max(0.0, float(offsets.max()))
        return arrived.time_ns - round(last_s * 1e9), cloud

    def _rule_of(self, message: Any) -> FieldRule:
        """How sweeps are read, judged by the first that has points."""
        try:
            rule = cloud_rule(message)
        except InputError as error:
            raise self._no_sensor(str(error)) from None
        if len(message.data):
            self._rule = rule
        return rule

    def _sounds(self) -> Iterator[Reading]:
        judged, times = JudgedSound(), SoundTimes()

        def make(arrived: Arrived, stamp_ns: int) -> tuple[int, Payload]:
            chunk, _ = payload_of(arrived.kind, arrived.message, FieldRule(), stamp_ns)
            assert isinstance(chunk, AudioChunk)
            return times.start_ns(chunk, arrived.time_ns - duration_ns(chunk)), chunk

        for arrived in (each for batch in self._topic.arriving() for each in batch):
            try:
                known = judged.let_through(arrived)
            except InputError as error:
                raise self._no_sensor(str(error)) from None
            for each in known:
                yield from self._read(each, make)

    def _no_sensor(self, why: str) -> SensorError:
        what = _WHAT[self._mount.modality]
        return SensorError(f"{self._address}: topic {self._address.name} is not read as {what}: {why}")

    def _pass_over(self, error: InputError) -> None:
        self._mount.dropped("cannot be read", 1)
        if not self._told:
            _log.warning("sensor %s: %s: messages passed over: %s", self._mount.name, self._address, error)
        self._told = True
