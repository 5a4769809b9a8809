"""Folders of sound clips: what is said in them and by whom, and how to share them out by speaker.

Names that tell the speaker:

    SPEAKER_nohash_N, WORD_SPEAKER_nohash_N   Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech
                                              Recognition", 2018; with the word before it in the folder of other words
    DIGIT_SPEAKER_N                           Free Spoken Digit Dataset
    SPEAKER-CHAPTER-SENTENCE                  Panayotov et al., "Librispeech", ICASSP 2015
    SPEAKER_...                               VCTK and others
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusion.errors import InputError, RecordingError
from fusion.recording.media.audio_reader import SUFFIXES
from fusion.recording.media.clip_notes import ClipNotes, Intent, read_notes, transcript_beside

_SPEAKERS = tuple(
    map(re.compile, (r"(?:.*_)?([^_]+)_nohash_.*", r"\d_([^_]+)_\d+", r"(\d+)-\d+-\d+", r"([^_]+)(?:_.*)?"))
)
_DIGIT = re.compile(r"(\d)_[^_]+_\d+")


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip: its file, what it is labelled, and by whom it is said.

    `transcript` are the words said, empty where they are not told; `slots` the parts of an intent, by name.
    """

    path: Path
    label: str
    speaker: str
    transcript: str = ""
    slots: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_clips(folder: Path) -> list[Clip]:
    """The clips in `folder` and its sub-folders, by path; those of `folder` itself first.

    The label is the intent that a `label.json` gives (beside the clip, in `folder`, or above it), else the sub-folder's
    name, else the digit of a `DIGIT_SPEAKER_N`, else empty. The speaker is told by the name that `files.md` says the
    clip had first, else by its own (see `speaker_of`). The transcript is the `.txt` of the same stem, else the line
    in `files.md`. Sub-folders whose name begins with a dot are passed over. Raises `RecordingError` when there is no
    clip, and for a wrong file beside them.
    """
    try:
        below = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = [file for place in (folder, *below) for file in sorted(place.iterdir()) if _is_sound(file)]
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be read ({error.strerror})") from None
    if not files:
        raise RecordingError(f"{folder}: no clips in it or in its sub-folders; {', '.join(SUFFIXES)} files are read")
    places = {folder, folder.absolute().parent, *(file.parent for file in files)}
    return list(_described(files, folder, {place: read_notes(place) for place in places}))


def speaker_of(stem: str) -> str:
    """The speaker's id in a clip's name; a name that tells none is a speaker of its own."""
    return next((match[1] for pattern in _SPEAKERS if (match := pattern.fullmatch(stem))), stem)


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _described(files: Sequence[Path], folder: Path, notes: Mapping[Path, ClipNotes]) -> Iterator[Clip]:
    for path in files:
        beside = notes[path.parent]
        told = (beside, notes[folder], notes[folder.absolute().parent])
        intent = next((found.intents[path.name] for found in told if path.name in found.intents), Intent("", {}))
        digit = _DIGIT.fullmatch(path.stem)
        place = path.parent.name if path.parent != folder else digit[1] if digit else ""
        transcript = transcript_beside(path) or beside.transcripts.get(path.name, "")
        speaker = speaker_of(beside.origins.get(path.name, path.stem))
        yield Clip(path, intent.name or place, speaker, transcript, intent.slots)


def split_by_speaker(clips: Sequence[Clip], folds: int, seed: int) -> list[list[Clip]]:
    """The clips in `folds` folds of about equal size, all of a speaker's in one of them.

    The same for the same clips (in any order), folds and seed. Speakers are drawn in a random order; each goes to the
    fold that holds the fewest clips by then. A fold is empty when there are too few speakers. Raises `InputError` for
    less than one fold.
    """
    if folds < 1:
        raise InputError(f"{folds} folds; at least 1 is needed")
    by_speaker: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: (clip.speaker, clip.label, clip.path)):
        by_speaker.setdefault(clip.speaker, []).append(clip)
    speakers = sorted(by_speaker)
    random.Random(seed).shuffle(speakers)
    found: list[list[Clip]] = [[] for _ in range(folds)]
    for speaker in speakers:
        min(found, key=len).extend(by_speaker[speaker])
    return found
