"""What was said."""

import io
import tracemalloc
import wave

import numpy as np
import pytest

from fusion.types import AudioChunk, Modality, Reading, Truth
from replay.outputs import write_outputs
from replay.report.utterances import AFTER_NS, BEFORE_NS, MAX_AUDIO_BYTES, spans, utterances
from replay.results.records import RunResults


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


class Talk:
    """A recording of nothing but talk: something else is said every 0.7 s, each chunk's samples have its number."""

    def __init__(self, count, rate=16_000):
        self.count, self.rate = count, rate

    def truth(self):
        for index in range(self.count):
            yield Truth(index * 700_000_000 + 3, (), "stop", f"word {index}")

    def readings(self):
        for index in range(self.count * 7):
            pcm = np.full(self.rate // 10, index % 30_000, np.int16)
            yield index + 1, Reading("mic", Modality.SPEECH, index * 100_000_000, AudioChunk(pcm, self.rate))


@pytest.mark.parametrize("room", [0, 30_000, 100_000, 10**9])
def test_utterances_that_overlap_have_each_its_own_sound(drawn_run, room):
    talk, left = Talk(20), room
    for index, utterance in enumerate(utterances(talk, drawn_run.task, room)):
        around = [
            reading.payload.pcm[0]
            for _, reading in talk.readings()
            if -BEFORE_NS <= reading.capture_time_ns - (index * 700_000_000 + 3) < AFTER_NS
        ]
        left -= 44 + 800 * 2 * len(around)
        if left < 0:
            assert not utterance.wav
            continue
        with wave.open(io.BytesIO(utterance.wav)) as sound:
            heard = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        assert list(heard[::800]) == around


def test_sound_that_does_not_fit_is_not_held(drawn_run):
    tracemalloc.start()
    said = utterances(Talk(300, 48_000), drawn_run.task)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(utterance.wav) for utterance in said) <= MAX_AUDIO_BYTES
    assert peak < 12 * MAX_AUDIO_BYTES


def test_the_sound_of_all_recordings_shares_one_pages_room(draw, tmp_path, monkeypatch: pytest.MonkeyPatch):
    recording = draw.recording(30, width=160, height=96)
    run = draw.run(recording)
    names = ["a", "b", "c", "d"]
    told = RunResults(run.task, tuple(draw.judged(run, recording, name) for name in names), run.summary)
    sound = sum(len(utterance.wav) for utterance in utterances(recording, run.task))
    monkeypatch.setattr("replay.outputs.MAX_AUDIO_BYTES", sound + sound // 4)
    monkeypatch.setattr("replay.outputs.MAX_TIMELINES", 3)
    opened = {name: draw.recording(30, width=160, height=96) for name in names}
    write_outputs(told, {name: lambda name=name: opened[name] for name in names}, tmp_path, exports=())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:audio/wav") == 2
    assert page.count("2 of them without sound") == 2
    assert opened["c"].calls == opened["d"].calls + 1 == opened["a"].calls
