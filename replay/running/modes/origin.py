"""The recording that evidence was made of: the file itself where it is still there, else what its evidence tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import FusionError, RecordingError
from fusion.recording.base import RecordingInfo, RecordingReader
from fusion.types import Reading, Truth
from replay.running.evidence.reading import EvidenceFile
from replay.running.folder import RunFolder


@dataclass(frozen=True, slots=True)
class EvidenceRecording:
    """A recording of which only its evidence and its truth are left: it has no readings."""

    file: EvidenceFile

    @property
    def path(self) -> Path:
        """The evidence file."""
        return self.file.path

    def info(self) -> RecordingInfo:
        """What the recording was."""
        head, size = self.file.head, self.file.path.stat().st_size
        return RecordingInfo(
            self.path, "evidence", head.content_sha256, size, head.task, {}, None, self.file.books.truths, {},
            damage=head.damage, continuous=head.continuous,
        )  # fmt: skip

    def sizes(self) -> Mapping[str, int]:
        """Nothing: there are no readings."""
        return {}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def truth(self) -> Iterator[Truth]:
        """What was true, as the evidence file keeps it."""
        return self.file.truth()


def origin(evidence: Path, source: str, original: Callable[[], RecordingReader]) -> RecordingReader:
    """The recording that `evidence` is of. `original` opens it at `source`, and counts only with the same content.

    A file may name any place as its source: only files and folders of this machine are looked at.
    Raises `RecordingError` for evidence that cannot be read; that of a run's folder needs the original as it was.
    """
    if evidence.is_dir():
        found = original()
        was = RunFolder(evidence.parent.parent).done(evidence.name).get("stamp") or {}
        if was.get("recording", _content(found)) != _content(found):
            raise RecordingError(f"{source}: is not what {evidence} was made of any more; run it again")
        return found
    file = EvidenceFile.open(evidence)
    if not _is_there(source):
        return EvidenceRecording(file)
    try:
        found = original()
        same = _content(found) == file.head.content_sha256
    except FusionError:
        return EvidenceRecording(file)
    return found if same else EvidenceRecording(file)


def _is_there(source: str) -> bool:
    try:
        return Path(source).is_file() or Path(source).is_dir()
    except (OSError, ValueError):  # no name that a file can have
        return False


_CONTENTS: dict[tuple[Path, int], str] = {}
"""Contents by path and time of change: to know one, the whole file is read."""


def _content(reader: RecordingReader) -> str:
    changed_ns = reader.path.stat().st_mtime_ns if reader.path.is_file() else 0
    if not changed_ns:
        return reader.info().content_sha256
    key = reader.path, changed_ns
    if key not in _CONTENTS:
        _CONTENTS[key] = reader.info().content_sha256
    return _CONTENTS[key]
