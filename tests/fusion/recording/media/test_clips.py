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
    ],
)
def test_the_speaker_in_a_name(stem, speaker):
    assert speaker_of(stem) == speaker


def test_no_clips_are_an_error(tmp_path):
    with pytest.raises(RecordingError, match="no clips in it; a sub-folder a label is needed"):
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
