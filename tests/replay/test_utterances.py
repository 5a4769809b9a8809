"""What was said."""

import io
import wave

import pytest

from fusion.types import Truth
from replay.report.utterances import MAX_AUDIO_BYTES, spans, utterances


def test_runs_of_the_same_words_are_one_utterance():
    words = ["", "stop", "stop", "", "count the drums", "check it", "check it"]
    truths = [Truth(i * 10, (), "stop", text) for i, text in enumerate(words)]
    found = [(u.start_ns, u.end_ns, u.transcript) for u in spans(iter(truths))]
    assert found == [(10, 20, "stop"), (40, 40, "count the drums"), (50, 60, "check it")]


def test_sound_around_its_end_comes_with_it(draw, drawn_run):
    recording = draw.recording(60, width=160, height=96)
    said = utterances(recording, drawn_run.task)
    assert [u.transcript for u in said] == ["check the left crate", "count the drums"]
    for utterance in said:
        with wave.open(io.BytesIO(utterance.wav)) as sound:
            assert sound.getframerate() == 8000
            assert 1.0 < sound.getnframes() / sound.getframerate() <= 3.0


def test_sound_stays_within_its_budget(draw, drawn_run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("replay.report.utterances.MAX_AUDIO_BYTES", 30_000)
    said = utterances(draw.recording(60, width=160, height=96), drawn_run.task)
    assert sum(len(u.wav) for u in said) <= 30_000 < MAX_AUDIO_BYTES
    assert len(said) == 2


def test_without_a_microphone_the_words_remain(draw, drawn_run):
    task = drawn_run.task.model_copy(update={"sensors": {"front": drawn_run.task.sensors["front"]}})
    said = utterances(draw.recording(20), task)
    assert said
    assert not any(u.wav for u in said)
