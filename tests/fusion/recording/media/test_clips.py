"""Folders of labelled clips: labels, speakers, and folds that share no speaker."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError, RecordingError
from fusion.recording.media.clips import Clip, read_clips, speaker_of, split_by_speaker

CLIPS = Path(__file__).parents[4] / "../shared/data/speech_commands"


def test_labels_are_folders_and_speakers_stand_in_the_names(tmp_path):
    for name in (
        "yes/ab12_nohash_0.wav",
        "yes/cd34_nohash_1.flac",
        "no/ab12_nohash_0.ogg",
        "no/notes.txt",
        ".git/a_b.wav",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "README.md").touch()
    assert [(c.path.name, c.label, c.speaker) for c in read_clips(tmp_path)] == [
        ("ab12_nohash_0.ogg", "no", "ab12"),
        ("ab12_nohash_0.wav", "yes", "ab12"),
        ("cd34_nohash_1.flac", "yes", "cd34"),
    ]


@pytest.mark.parametrize(
    ("stem", "speaker"),
    [
        ("ab12_nohash_0", "ab12"),
        ("backward_ab12_nohash_4", "ab12"),
        ("anna_take_2", "anna"),
        ("1037", "1037"),
        ("7_george_3", "george"),
        ("0_01_12", "01"),
        ("251-137823-0002", "251"),
        ("p232_113", "p232"),
        ("0a40c7aa-7adf-4687-a54f-1506c1d7b8ef", "0a40c7aa-7adf-4687-a54f-1506c1d7b8ef"),
        ("_", "_"),
    ],
)
def test_the_speaker_in_a_name(stem, speaker):
    assert speaker_of(stem) == speaker


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_flat_folders_with_transcripts_and_first_names(tmp_path):
    touch(tmp_path, "7_george_3.wav", "p232_113.wav", "251-137823-0002.flac", "another_door.wav")
    (tmp_path / "p232_113.txt").write_text("Ask her to bring these things\n")
    (tmp_path / "files.md").write_text(
        '# Clips\n- another_door.wav (orig - 3536-23268-0010.flac)\n  - "And he walked out"\n'
    )
    assert {c.path.name: (c.label, c.speaker, c.transcript) for c in read_clips(tmp_path)} == {
        "7_george_3.wav": ("7", "george", ""),
        "p232_113.wav": ("", "p232", "Ask her to bring these things"),
        "251-137823-0002.flac": ("", "251", ""),
        "another_door.wav": ("", "3536", "And he walked out"),
    }


def test_intents_and_their_slots(tmp_path, monkeypatch):
    touch(tmp_path, "clean/a1-b2.wav", "noise/kitchen.wav")
    (tmp_path / "label.json").write_text(
        '{"a1-b2.wav": {"intent": "orderDrink", "slots": {"milkAmount": " soy milk"}}}'
    )
    order, noise = read_clips(tmp_path)
    assert (order.label, order.slots) == ("orderDrink", {"milkAmount": "soy milk"})
    assert (noise.label, noise.slots) == ("noise", {})
    assert read_clips(tmp_path / "clean") == [order]
    monkeypatch.chdir(tmp_path / "clean")
    assert [clip.label for clip in read_clips(Path())] == ["orderDrink"]


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b'{"a": 1}', b'{"a": {}}', b"\xff", b'{"a":{"intent":"b","slots":3}}', b"[" * 99_999]
)
def test_a_wrong_file_beside_the_clips_is_named(tmp_path, content):
    touch(tmp_path, "a.wav")
    (tmp_path / "label.json").write_bytes(content)
    with pytest.raises(RecordingError, match=r"label.json: "):
        read_clips(tmp_path)
    (tmp_path / "label.json").write_text("{}")
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(RecordingError, match=r"a.txt: cannot be read"):
        read_clips(tmp_path)


def test_no_clips_are_an_error(tmp_path):
    with pytest.raises(RecordingError, match="no clips in it or in its sub-folders"):
        read_clips(tmp_path)
    with pytest.raises(RecordingError, match="gone: cannot be read"):
        read_clips(tmp_path / "gone")
    with pytest.raises(InputError, match="0 folds; at least 1 is needed"):
        split_by_speaker([], 0, 0)


clips = st.lists(
    st.builds(
        Clip, st.integers(0, 99).map(lambda n: Path(f"{n}.wav")), st.sampled_from("ab"), st.sampled_from("stuvwxyz")
    ),
    unique=True,
)


@given(clips, st.integers(1, 6), st.integers())
def test_folds_share_no_speaker_and_hold_every_clip_once(given_clips, folds, seed):
    found = split_by_speaker(given_clips, folds, seed)
    assert len(found) == folds
    assert Counter(clip for fold in found for clip in fold) == Counter(given_clips)
    speakers = [{clip.speaker for clip in fold} for fold in found]
    assert sum(map(len, speakers)) == len({clip.speaker for clip in given_clips})
    assert split_by_speaker(given_clips[::-1], folds, seed) == found


def test_the_real_commands_are_shared_out_evenly():
    if not CLIPS.exists():
        pytest.skip(f"{CLIPS} is not here")
    found = read_clips(CLIPS)
    assert (len(found), set(Counter(clip.label for clip in found).values())) == (1080, {90})
    folds = split_by_speaker(found, 5, 7)
    assert max(map(len, folds)) - min(map(len, folds)) <= 20
    assert split_by_speaker(found, 5, 8) != folds


def test_the_real_sentences_digits_and_orders_tell_who_speaks_and_what():
    if not CLIPS.exists():
        pytest.skip(f"{CLIPS} is not here")
    digits = read_clips(CLIPS.parent / "spoken_digits")
    assert Counter(clip.label for clip in digits) == dict.fromkeys("0123456789", 24)
    assert all(len({clip.speaker for clip in fold}) == 1 for fold in split_by_speaker(digits, 6, 0))
    sentences = {clip.path.stem: clip for clip in read_clips(CLIPS.parent / "librispeech")}
    assert sorted(clip.speaker for clip in sentences.values()) == ["2412", "251", "251", "251", "3536"]
    assert all(clip.transcript for clip in sentences.values())
    assert Counter(c.label for c in read_clips(CLIPS.parent / "speech_intents")) == {"orderDrink": 24, "noise": 1}
    assert [clip.speaker for clip in read_clips(CLIPS.parent / "vctk_noisy")] == ["p232", "p232", "p257"]
