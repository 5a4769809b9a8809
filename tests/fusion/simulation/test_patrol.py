import numpy as np
import pytest

from fusion.simulation import Split, simulate_patrol
from fusion.simulation.commands import Command
from fusion.simulation.draws import Draws
from fusion.simulation.radio import Radio
from fusion.simulation.route import draw_route
from fusion.simulation.thing import Thing


@pytest.fixture(scope="module")
def patrol():
    return list(simulate_patrol(5, 2.2, Split.TRAIN))


def test_one_frame_every_100_ms_with_its_sound(patrol):
    assert len(patrol) == 22
    assert set(np.diff([sample.time_ns for sample in patrol])) == {100_000_000}
    assert all(sample.audio.pcm.shape == (1600,) for sample in patrol)
    assert all(sample.truth.time_ns == sample.time_ns for sample in patrol)


def test_tracks_keep_their_object_and_the_cart_comes_nearer(patrol):
    labels = {}
    for sample in patrol:
        for thing in sample.truth.objects:
            assert labels.setdefault(thing.track, (thing.label, thing.condition)) == (thing.label, thing.condition)
    shared = {t.track: t for t in patrol[0].truth.objects}.keys() & {t.track for t in patrol[20].truth.objects}
    for track in shared:
        first, later = (next(t for t in patrol[k].truth.objects if t.track == track) for k in (0, 20))
        assert 0.2 < first.box3d.x - later.box3d.x < 3.8


def test_a_command_is_in_effect_for_4_s_from_its_end():
    radio = Radio(Draws(3, Split.TRAIN), 120)
    said, told, chunks = Command("inspect the left drum", "inspect", 3), [], []
    for frame in range(120):
        chunks.append(radio.listen(frame, lambda _: said))
        told.append(radio.in_effect(frame)[0] == said)
    first = told.index(True)
    assert all(told[first : first + 40])
    assert not told[first + 40]
    assert told[first + 41 :].count(True) > 0
    loudness = np.array([np.abs(chunk.astype(float)).max() for chunk in chunks])
    assert all(chunk.shape == (1600,) for chunk in chunks)
    assert loudness[first - 6 : first + 1].max() > 1.5 * np.median(loudness[first + 2 : first + 25])


def test_asked_for_is_who_was_spoken_of(patrol):
    asked = [[thing.track for thing in sample.truth.objects if thing.asked_for] for sample in patrol]
    for sample, tracks in zip(patrol, asked, strict=True):
        assert len(tracks) <= (1 if sample.truth.intent == "inspect" else 0)


def test_the_same_seed_gives_the_same_bytes():
    one, two = (list(simulate_patrol(8, 0.2, Split.TEST)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert a.image.pixels.tobytes() == b.image.pixels.tobytes()
        assert a.cloud.points.tobytes() == b.cloud.points.tobytes()
        assert a.audio.pcm.tobytes() == b.audio.pcm.tobytes()
        assert a.truth == b.truth


def test_the_route_gives_way_to_what_obstructs_it():
    route = draw_route(Draws(1, Split.TRAIN))
    straight = route.sideways(20.0)
    pallet = Thing("pallet", "obstructing", None, None, x=20.0, y=0.6)
    assert route.allows(pallet, [])
    assert pallet.y - route.sideways(20.0) >= 1.2
    assert route.sideways(20.0) < straight
    wide = Thing("forklift", "obstructing", None, None, x=20.0, y=-0.1)
    assert not route.allows(wide, [pallet])
