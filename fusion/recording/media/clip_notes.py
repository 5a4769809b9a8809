"""What files beside sound clips tell of them: intents, transcripts, and what a clip was called in its first corpus.

label.json     {"NAME": {"intent": ..., "slots": {...}}}, the form of Picovoice's speech-to-intent benchmark
files.md       `- NAME (orig - FIRST_NAME)`, and under it `- "what is said"`
STEM.txt       what is said in the clip of that stem
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import RecordingError

_LABELS, _FILES = "label.json", "files.md"
_ORIGIN = re.compile(r"- (\S+) \(orig - (\S+)\.\w+\)")
_QUOTED = re.compile(r'- "(.*)"')


@dataclass(frozen=True, slots=True)
class Intent:
    """What a speaker wants: the intent's name and its parts by name."""

    name: str
    slots: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClipNotes:
    """What a folder's files tell, by the clips' file names; `origins` are stems."""

    intents: Mapping[str, Intent]
    origins: Mapping[str, str]
    transcripts: Mapping[str, str]


def read_notes(folder: Path) -> ClipNotes:
    """What `label.json` and `files.md` in `folder` tell. Raises `RecordingError` naming the file that is wrong."""
    labels, files = folder / _LABELS, folder / _FILES
    intents = _intents(labels) if labels.is_file() else {}
    origins: dict[str, str] = {}
    transcripts: dict[str, str] = {}
    name = ""
    for line in map(str.strip, _text(files).splitlines() if files.is_file() else ()):
        if origin := _ORIGIN.fullmatch(line):
            name = origin[1]
            origins[name] = origin[2]
        elif (quoted := _QUOTED.fullmatch(line)) and name:
            transcripts[name] = quoted[1]
    return ClipNotes(intents, origins, transcripts)


def transcript_beside(clip: Path) -> str:
    """The text of the `.txt` of the same stem, empty without one. Raises `RecordingError`."""
    path = clip.with_suffix(".txt")
    return _text(path).strip() if path.is_file() else ""


def _intents(path: Path) -> dict[str, Intent]:
    try:
        content = json.loads(_text(path))
        return {
            str(name): Intent(str(told["intent"]), {str(k): str(v).strip() for k, v in told.get("slots", {}).items()})
            for name, told in content.items()
        }
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: not JSON ({error})") from None
    except (KeyError, TypeError, AttributeError):
        raise RecordingError(f"{path}: not an intent and slots by file name") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from None
