"""One independent scene: a yard, a cart, a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.geometry import rigid, rotation_z
from fusion.simulation.camera import render
from fusion.simulation.commands import Command, draw_command, references, sights
from fusion.simulation.draws import Draws
from fusion.simulation.lidar import sweep
from fusion.simulation.observe import cue, observe
from fusion.simulation.rig import SAMPLE_RATE_HZ, draw_rig
from fusion.simulation.sample import SimulatedSample, Split, action_for
from fusion.simulation.sound import background, speech_gain, to_pcm
from fusion.simulation.speech import Speaker, draw_speaker, say
from fusion.simulation.thing import Thing
from fusion.simulation.world import Silhouette, World
from fusion.simulation.yard import Plot, Yard, build, draw_labels
from fusion.types import AudioChunk, Float32Array, Float64Array, Image, Truth, TruthObject

EPOCH_NS = 1_700_000_000_000_000_000
WINDOW_SAMPLES = 3 * SAMPLE_RATE_HZ
_SCENE_NS = 10_000_000_000
_HALF_VIEW_RAD = np.deg2rad(37.0)
_SPOKEN = 0.75


def simulate_scene(seed: int, split: Split, noise_dir: Path | None = None) -> SimulatedSample:
    """One scene with 3 to 9 objects and, three times in four, somebody speaking. The same seed gives the same bytes."""
    draws = Draws(seed, split)
    rig = draw_rig(draws)
    side, yaw = draws.uniform(-1.1, 1.1), float(np.clip(draws.rng.normal(0, 0.07), -0.18, 0.18))
    yard_from_ego = pose(0.0, side, yaw)

    def in_view(thing: Thing, others: Sequence[Thing]) -> bool:
        del others
        return bool(abs(np.arctan2(thing.y - side, thing.x) - yaw) < _HALF_VIEW_RAD)

    yard = build(draws, [Plot(2.6, 12.5, draw_labels(draws, int(draws.rng.integers(4, 10))), in_view)], moving=False)
    world = World(yard.things)
    blur = draws.rng.normal(0, 1.3, 2) * (1.6 if yard.lighting.dark else 0.8)
    frame = render(
        world, yard.ground, yard.lighting, rig.cameras["front"], yard_from_ego, draws.rng, (blur[0], 0.4 * blur[1])
    )
    cloud = sweep(world, yard.ground, yard.lighting, yard_from_ego @ rig.ego_from_lidar["roof"], draws.rng)
    silhouettes = [Silhouette(thing) for thing in yard.objects]
    objects = observe(yard.objects, silhouettes, frame.owners, rig.cameras["front"], yard_from_ego)
    command = draw_command(draws, references(sights(objects))) if draws.chance(_SPOKEN) else Command()
    speaker = draw_speaker(draws)
    pcm = to_pcm(_soundtrack(draws, command, speaker, noise_dir))
    time_ns = EPOCH_NS + seed * _SCENE_NS
    truth = Truth(time_ns, asked(objects, command.track), command.intent, command.text)
    return SimulatedSample(
        time_ns,
        Image(frame.pixels),
        cloud,
        AudioChunk(pcm, SAMPLE_RATE_HZ),
        rig,
        truth,
        notes_of(yard, yard.objects, command, speaker),
    )


def notes_of(yard: Yard, objects: Sequence[Thing], command: Command, speaker: Speaker) -> dict[str, object]:
    """What a reader of the truth of `objects` may want besides: light, weather, look-alikes, cues, the speaker."""
    light = yard.lighting
    return {
        "lighting": light.mode,
        "weather": "rain" if light.rain else "dry",
        "ground": yard.ground.kind,
        "lane_width_m": round(yard.ground.lane.width, 3),
        "nuisance": {str(thing.track): thing.nuisance for thing in objects if thing.nuisance},
        "cue": {str(thing.track): cue(thing, light, asked=thing.track == command.track) for thing in objects},
        "speaker": f"{speaker.voice} {speaker.speed} {speaker.pitch}" if command.text else "",
    }


def _soundtrack(draws: Draws, command: Command, speaker: Speaker, noise_dir: Path | None) -> Float32Array:
    """The 3 s (48000,) before the picture: noise, and the utterance ending 0.05 to 1 s before it."""
    sound = background(draws, WINDOW_SAMPLES, noise_dir)
    if not command.text:
        return sound * np.float32(draws.uniform(0.01, 0.15))
    speech = say(command.text, speaker)[-(WINDOW_SAMPLES - SAMPLE_RATE_HZ // 20) :]
    level, noise_level = speech_gain(draws, speech)
    sound = sound * np.float32(noise_level)
    longest = min(1.0, (WINDOW_SAMPLES - len(speech)) / SAMPLE_RATE_HZ)
    end = WINDOW_SAMPLES - round(draws.uniform(0.05, max(longest, 0.05)) * SAMPLE_RATE_HZ)
    start = max(0, end - len(speech))
    sound[start : start + len(speech)] += speech * np.float32(level)
    return sound


def asked(objects: Sequence[TruthObject], track: int) -> tuple[TruthObject, ...]:
    """The objects' truth with the one of `track` asked for."""
    return tuple(
        replace(o, asked_for=True, action=action_for(o.label, o.condition or "ok", asked=True))
        if o.track == track
        else o
        for o in objects
    )


def pose(x: float, y: float, yaw: float) -> Float64Array:
    """A cart's 4x4 pose in the yard."""
    return rigid(rotation_z(yaw), np.array([x, y, 0.0]))
