from fusion.simulation import Split
from fusion.simulation.commands import Command, Sight, draw_command, references
from fusion.simulation.draws import Draws


def phrases(*sights):
    return {phrase: track for _, phrase, track in references(sights)}


def test_the_only_one_needs_no_word_more():
    assert phrases(Sight(4, "drum", "ok", 100, 5, clear=True)) == {"the drum": 4}


def test_sides_and_distances():
    found = phrases(Sight(1, "drum", "ok", 100, 5.0, clear=True), Sight(2, "drum", "ok", 300, 7.0, clear=True))
    assert found["the left drum"] == found["the drum on the left"] == found["the nearest drum"] == 1
    assert found["the right drum"] == found["the farthest drum"] == 2
    assert "the drum" not in found


def test_nothing_is_said_that_fits_two():
    close = [Sight(1, "cone", "toppled", 100, 5.0, clear=True), Sight(2, "cone", "toppled", 110, 5.5, clear=True)]
    assert phrases(*close) == {}


def test_a_condition_names_the_only_one_in_it():
    found = phrases(
        Sight(1, "drum", "ok", 100, 5.0, clear=True),
        Sight(2, "drum", "leaking", 110, 5.5, clear=True),
        Sight(3, "crate", "ok", 400, 9.0, clear=True),
    )
    assert found == {"the leaking drum": 2, "the crate": 3}


def test_what_hardly_shows_is_not_named_but_makes_others_ambiguous():
    found = phrases(Sight(1, "drum", "ok", 100, 5.0, clear=False), Sight(2, "drum", "ok", 300, 7.0, clear=True))
    assert "the drum" not in found
    assert set(found.values()) == {2}


def test_commands_keep_to_the_options():
    options = [("left", "the left drum", 7)]
    drawn = [draw_command(Draws(seed, Split.TRAIN), options) for seed in range(200)]
    assert {command.intent for command in drawn} == {"none", "inspect", "stop", "count"}
    for command in drawn:
        assert (command.track == 7) == (command.intent == "inspect") == command.text.endswith("the left drum")
    assert all(draw_command(Draws(seed, Split.TEST), []).track == 0 for seed in range(50))
    assert Command().intent == "none"
