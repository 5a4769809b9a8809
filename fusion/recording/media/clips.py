"""Folders of labelled sound clips, and how to share them out by speaker.

Layout of Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018: a sub-folder a label,
files `SPEAKER_nohash_N`. The folder of other words may have the word before it: `WORD_SPEAKER_nohash_N`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import InputError, RecordingError
from fusion.recording.media.audio_reader import SUFFIXES

_NAME = re.compile(r"(?:.*_)?([^_]+)_nohash_.*")


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip: its file, what is said in it, and by whom."""

    path: Path
    label: str
    speaker: str


def read_clips(folder: Path) -> list[Clip]:
    """The clips of all sub-folders of `folder`, by label and name.

    The speaker is what stands before `_nohash_`, in other names what stands before the first `_`; a name without one
    is a speaker of its own. Sub-folders whose name begins with a dot are passed over. Raises `RecordingError` when
    there is no clip.
    """
    try:
        labels = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = [file for label in labels for file in sorted(label.iterdir()) if file.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be read ({error.strerror})") from None
    if not files:
        raise RecordingError(
            f"{folder}: no clips in it; a sub-folder a label is needed, with {', '.join(SUFFIXES)} files"
        )
    return [Clip(file, file.parent.name, speaker_of(file.stem)) for file in files]


def speaker_of(stem: str) -> str:
    """The speaker's id in a clip's name."""
    match = _NAME.fullmatch(stem)
    return match[1] if match else stem.split("_", maxsplit=1)[0]


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
