"""Whether a topic of sound is raw sound: told by its first chunks, as in a bag without an `AudioInfo`."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_node.live.ros2.topic import Arrived
from fusion.errors import InputError
from fusion.recording.ros.sound import LOOKED_AT, why_no_sound
from fusion.recording.ros.topics import sound_bytes

_HEARD_NS = 1_000_000_000
_FEWEST = 3


@dataclass(slots=True)
class JudgedSound:
    """Holds the first chunks, a second of them, until their rate tells what they are; the rest is let through."""

    _held: list[Arrived] = field(default_factory=list)
    _known: bool = False

    def let_through(self, arrived: Arrived) -> list[Arrived]:
        """The chunks that are known to be raw sound by now. Raises `InputError` where they are not."""
        if self._known:
            return [arrived]
        self._held.append(arrived)
        long_enough = arrived.time_ns - self._held[0].time_ns >= _HEARD_NS and len(self._held) >= _FEWEST
        if not long_enough and len(self._held) < LOOKED_AT:
            return []
        why = why_no_sound(None, [(each.time_ns, bytes(sound_bytes(each.kind, each.message))) for each in self._held])
        if why:
            raise InputError(why)
        held, self._held, self._known = self._held, [], True
        return held
