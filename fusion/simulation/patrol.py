"""A patrol: the cart drives down the lane of a long yard, and somebody speaks to it now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.geometry import invert
from fusion.simulation.backdrop import gate
from fusion.simulation.camera import look, render
from fusion.simulation.commands import Command, draw_command, references, sights
from fusion.simulation.draws import Draws
from fusion.simulation.lidar import sweep
from fusion.simulation.light import Lighting
from fusion.simulation.mesh import IndexArray
from fusion.simulation.observe import observe
from fusion.simulation.radio import AHEAD_FRAMES, Radio
from fusion.simulation.rig import SAMPLE_RATE_HZ, draw_rig
from fusion.simulation.route import Route, draw_route
from fusion.simulation.sample import SimulatedSample, Split
from fusion.simulation.scene import EPOCH_NS, asked, notes_of
from fusion.simulation.thing import Thing
from fusion.simulation.world import Silhouette, World
from fusion.simulation.yard import Plot, Yard, build, draw_labels
from fusion.types import AudioChunk, Float64Array, Image, Truth, TruthObject

FRAME_NS = 100_000_000
_PATROL_NS = 3_600_000_000_000
_RATE_HZ = 10.0
_BAY_M = 14.0
_GATE_M = 5.6
_AHEAD_M, _BEHIND_M, _SCOPE_M = 50.0, 8.0, 30.0
_LAMP_SPACING_M, _LAMP_NEAREST_M = 14.0, 4.0
_EXPOSURE_S = 1 / 60


def simulate_patrol(
    seed: int, seconds: float, split: Split, noise_dir: Path | None = None
) -> Iterator[SimulatedSample]:
    """`seconds` of driving at 10 Hz, frame after frame. The same seed gives the same bytes.

    The yard is a row of bays between gates, each as full as a scene. Things keep their tracks; some persons and
    forklifts move. A sample's audio is the 100 ms before it; what was said is in effect for 4 s after its end.
    """
    patrol = _Patrol(seed, seconds, split, noise_dir)
    for frame in range(patrol.frames):
        yield patrol.sample(frame)


class _Patrol:
    def __init__(self, seed: int, seconds: float, split: Split, noise_dir: Path | None) -> None:
        draws = Draws(seed, split, stream=1)
        self.frames = round(seconds * _RATE_HZ)
        self._rng = draws.rng
        self._start_ns = EPOCH_NS + seed * _PATROL_NS
        self._rig = draw_rig(draws)
        self._route = draw_route(draws)
        self._yard = _bays(draws, self._route, seconds * self._route.speed + _SCOPE_M)
        self._silhouettes = {thing.track: Silhouette(thing) for thing in self._yard.objects}
        self._radio = Radio(Draws(seed, split, stream=2), self.frames, noise_dir)

    def sample(self, frame: int) -> SimulatedSample:
        time_s, time_ns = frame / _RATE_HZ, self._start_ns + frame * FRAME_NS
        yard_from_ego = self._route.at(time_s)
        camera = self._rig.cameras["front"]
        near, world = self._world(time_s)
        lighting = _lit_from(self._yard.lighting, float(yard_from_ego[0, 3]))
        picture = render(world, self._yard.ground, lighting, camera, yard_from_ego, self._rng, self._blur(time_s))
        lidar = yard_from_ego @ self._rig.ego_from_lidar["roof"]
        cloud = sweep(world, self._yard.ground, lighting, lidar, self._rng)
        objects = self._observe(near, picture.owners, yard_from_ego)
        pcm = self._radio.listen(frame, lambda draws: self._say(draws, frame, objects))
        command, speaker = self._radio.in_effect(frame)
        truth = Truth(time_ns, asked(objects, command.track), command.intent, command.text)
        notes = notes_of(self._yard, near, command, speaker)
        return SimulatedSample(
            time_ns, Image(picture.pixels), cloud, AudioChunk(pcm, SAMPLE_RATE_HZ), self._rig, truth, notes
        )

    def _world(self, time_s: float) -> tuple[list[Thing], World]:
        """The objects ahead, where they are by now, and the world they stand in (its first things)."""
        x = self._route.speed * time_s
        near = [thing.at(time_s) for thing in self._yard.objects if 0 < thing.x - x < _SCOPE_M]
        behind = [thing.at(time_s) for thing in self._yard.objects if -_BEHIND_M < thing.x - x <= 0]
        around = [thing for thing in self._yard.backdrop if -_BEHIND_M < thing.x - x < _AHEAD_M]
        return near, World([*near, *behind, *around])

    def _observe(
        self, near: Sequence[Thing], owners: IndexArray, yard_from_ego: Float64Array
    ) -> tuple[TruthObject, ...]:
        silhouettes = [self._silhouettes[thing.track] for thing in near]
        return observe(near, silhouettes, owners, self._rig.cameras["front"], yard_from_ego)

    def _say(self, draws: Draws, frame: int, objects: Sequence[TruthObject]) -> Command:
        """Something that fits one object now and still will when it has been said."""
        later_s = (frame + AHEAD_FRAMES) / _RATE_HZ
        later = self._route.at(later_s)
        near, world = self._world(later_s)
        then = self._observe(near, look(world, self._rig.cameras["front"], later), later)
        lasting = set(references(sights(then)))
        return draw_command(draws, [option for option in references(sights(objects)) if option in lasting])

    def _blur(self, time_s: float) -> tuple[float, float]:
        """How far the picture moves during the exposure, in pixels: the cart's turning and its shaking."""
        turn = invert(self._route.at(time_s)) @ self._route.at(time_s + _EXPOSURE_S)
        swing = float(np.arctan2(turn[1, 0], turn[0, 0])) * float(self._rig.cameras["front"].k[0, 0])
        shake = self._rng.normal(0, 1.3, 2) * (1.6 if self._yard.lighting.dark else 0.8)
        return swing + shake[0], 0.4 * shake[1]


def _bays(draws: Draws, route: Route, length: float) -> Yard:
    starts = np.arange(0.0, length, _BAY_M)
    plots = []
    for start in starts:
        labels = draw_labels(draws, int(draws.rng.integers(5, 9)))
        plots.append(Plot(float(start) + 2.6, float(start) + _BAY_M - 1.6, labels, route.allows, 1.0))
    yard = build(draws, plots, moving=True)
    gates = [piece for start in starts[1:] for piece in gate(draws, float(start), _GATE_M)]
    return replace(yard, backdrop=(*yard.backdrop, *gates))


def _lit_from(lighting: Lighting, x: float) -> Lighting:
    """The light when the cart is at `x`: at night the yard's lamps switch on as it comes near."""
    if not lighting.key_is_lamp:
        return lighting
    key = lighting.key.copy()
    key[0] += _LAMP_SPACING_M * np.ceil((x + _LAMP_NEAREST_M - key[0]) / _LAMP_SPACING_M)
    return replace(lighting, key=key)
