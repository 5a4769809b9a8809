"""What decides a recording's outcome, so that it is run again when any of it changed, and only then."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_node.models import model_folder
from fusion.errors import InputError
from replay.running.plan import Job, Plan, Prepared, Variant

FORMAT = 2
"""Of the databases a run writes and the code that fills them: raise it when older ones must not be taken up."""
WHOLE_BYTES = 256 << 20
"""Larger files of models stand for themselves by size and time of change, not by content."""
_OPTIONS = re.compile(r"[?&](?:projector|calibration)=([^&\]]+)")
_PASSING = ("-shm", ".lock", ".part")
_PROGRAMS = ("fusion-stack", "numpy", "onnxruntime", "openvino", "torch")
_WORDS = {
    "recording": "the recording",
    "evidence": "the recorded evidence",
    "settings": "the settings",
    "task": "the task's file",
    "models": "the device's models",
    "reviewers": "the reviewer",
    "calibration": "the calibration",
    "program": "the program or its libraries",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """Digests by what they are of (`_WORDS`); of a recording not read yet, without its own."""

    parts: Mapping[str, str]

    @property
    def key(self) -> str:
        """All of it in one."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    def with_recording(self, content: str) -> Stamp:
        """The same for a recording of this content."""
        return replace(self, parts={**self.parts, "recording": content})

    def differences(self, found: Mapping[str, str]) -> str:
        """What is not as it was `found`, in words; empty where all is."""
        return ", ".join(words for part, words in _WORDS.items() if self.parts.get(part) != found.get(part))


@dataclass(slots=True)
class Stamps:
    """Makes the stamps of a plan; each file is read once."""

    plan: Plan
    _known: dict[str, str] = field(default_factory=dict)

    def of(self, job: Job, variant: Variant) -> Stamp:
        """That of `job` under `variant`, but for the recording. Raises `FusionError` naming what is missing."""
        prepared = Prepared.of(self.plan.task, job, variant)
        calibration = prepared.edge.screening.calibration
        reviewers = [f"{name} {self._of_reviewer(name)}" for name in prepared.cloud.reviewers]
        return Stamp(
            {
                "settings": self.plan.key(job, variant),
                "task": self._digest(Path(self.plan.task_name)) if Path(self.plan.task_name).is_file() else "",
                "models": self._digest(model_folder(self.plan.task, prepared.edge.models), deep=False),
                "reviewers": "\n".join(reviewers),
                "evidence": self._digest(Path(job.evidence)) if job.evidence else "",
                "calibration": self._digest(Path(calibration)) if Path(calibration).is_file() else "",
                "program": program(),
            }
        )

    def _of_reviewer(self, name: str) -> str:
        """Of the folder a reviewer's name tells, as far as it tells one, and of the files that its options do."""
        argument = name.partition(":")[2].lstrip("[").partition("?")[0].rstrip("]")
        argument = argument.rpartition(":")[2] if not Path(argument).exists() else argument
        told = [self._digest(Path(one)) for one in _OPTIONS.findall(name) if Path(one).exists()]
        bundled = Path(str(resources.files("fusion").joinpath("weights", argument or "-", "reviewer")))
        if bundled.is_dir() and not (Path(argument) / "reviewer.json").is_file():
            told.append(self._digest(bundled))
        elif argument and Path(argument).exists():
            told.append(self._digest(Path(argument)))
        return " ".join(told)

    def _digest(self, path: Path, *, deep: bool = True) -> str:
        key = f"{path}\n{deep}"
        if key not in self._known:
            self._known[key] = digest_of(path, deep=deep)
        return self._known[key]


def digest_of(path: Path, *, deep: bool = True) -> str:
    """SHA-256 over a file, or over names and contents of a folder's files, `deep` with those below it.

    What hangs on who looks at a folder is left out: locks, files in the making, and what SQLite keeps beside a
    database, but for a log in which there is something. Raises `InputError` naming the file that cannot be read.
    """
    digest = hashlib.sha256()
    for file in _files(path, deep=deep):
        try:
            digest.update(f"{file.relative_to(path).as_posix()}\0{_content(file)}\n".encode())
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _files(path: Path, *, deep: bool) -> Iterator[Path]:
    if path.is_dir():
        found = path.rglob("*") if deep else path.iterdir()
        yield from sorted(one for one in found if one.is_file() and not _passing(one))
    else:
        yield path


def _passing(file: Path) -> bool:
    """Whether a file tells nothing of its folder's content."""
    return file.name.endswith(_PASSING) or (file.name.endswith("-wal") and not file.stat().st_size)


def _content(file: Path) -> str:
    stat = file.stat()
    if stat.st_size > WHOLE_BYTES:
        return f"{stat.st_size} {stat.st_mtime_ns}"
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def program() -> str:
    """The versions of what computes."""
    return " ".join([f"format={FORMAT}", *(f"{name}={_version(name)}" for name in _PROGRAMS)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
