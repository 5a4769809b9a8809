"""A run's folder: where everything lies, and which recordings in it are done.

    OUT/run.json                    what was run
    OUT/recordings/NAME/            spool.db, ledger.db, done.json of one recording; evidence.mcap of the device alone,
                                    facts.json of a what-if run
    OUT/results.json                what was decided, the same for the same run
    OUT/summary.json, report.html, …

A run of several variants has such a folder for each of them: OUT/VARIANT/….
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.json_text import parse_json
from replay.results.file import NAME as RESULTS_NAME
from replay.running.evidence.layout import NAME as EVIDENCE_NAME
from replay.running.plan import Job, Plan, Variant

FORMAT = 1
SPOOL_NAME, LEDGER_NAME, DONE_NAME, MANIFEST_NAME = "spool.db", "ledger.db", "done.json", "run.json"
FACTS_NAME = "facts.json"
OUTCOME_NAMES = (RESULTS_NAME, "summary.json", "report.html")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One variant's folder."""

    path: Path

    @classmethod
    def of(cls, out: Path, variant: Variant) -> RunFolder:
        """That of `variant` in a run that goes to `out`."""
        return cls(out / variant.name if variant.name else out)

    def job(self, name: str) -> Path:
        """The folder of one recording."""
        return self.path / "recordings" / name

    def spool(self, name: str) -> Path:
        """Its device's database."""
        return self.job(name) / SPOOL_NAME

    def ledger(self, name: str) -> Path:
        """Its service's database."""
        return self.job(name) / LEDGER_NAME

    def done(self, name: str) -> dict[str, Any]:
        """What was noted of this recording when it was run to its end; empty where it was not."""
        try:
            found = parse_json((self.job(name) / DONE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        sound = isinstance(found, dict) and isinstance(found.get("stamp", {}), dict)
        return found if sound else {}

    def forget(self, name: str) -> None:
        """It is going to be run again, and is not done until it was. Raises `InputError` naming the file."""
        _remove(self.job(name) / one for one in (DONE_NAME, FACTS_NAME, EVIDENCE_NAME))

    def forget_outcome(self) -> None:
        """What was made of all recordings together is of no run until it is made again. Raises as `forget` does."""
        _remove(self.path / one for one in OUTCOME_NAMES)

    def mark_done(self, name: str, key: str, **facts: Any) -> None:
        """Note that it was, with what else is to be known of it."""
        write_json(self.job(name) / DONE_NAME, {"key": key, **facts})

    def write_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        """Note what only the run itself knows of this recording, in place of what an earlier one knew."""
        if facts:
            write_json(self.job(name) / FACTS_NAME, facts)
        else:
            (self.job(name) / FACTS_NAME).unlink(missing_ok=True)

    def facts(self, name: str) -> dict[str, Any]:
        """What the run noted of this recording; nothing where it noted nothing."""
        try:
            found: dict[str, Any] = parse_json((self.job(name) / FACTS_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def write_manifest(self, plan: Plan, variant: Variant, mode: str) -> None:
        """Note what is run here."""
        manifest = {
            "format": FORMAT,
            "task": plan.task_place,
            "mode": mode,
            "variant": variant.model_dump(),
            "jobs": [asdict(job) for job in plan.jobs],
        }
        write_json(self.path / MANIFEST_NAME, manifest)

    def mode(self) -> str:
        """How it was run; empty when that cannot be told."""
        try:
            return self.manifest().mode
        except InputError:
            return ""

    def manifest(self) -> Manifest:
        """What was run here. Raises `InputError` naming the file when that cannot be told."""
        path = self.path / MANIFEST_NAME
        try:
            found = parse_json(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise InputError(f"{path}: format {found['format']}; this program reads format {FORMAT}")
            jobs = tuple(Job(**job) for job in found["jobs"])
            return Manifest(found["task"], found["mode"], Variant.model_validate(found["variant"]), jobs)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give the folder of a run") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not the manifest of a run ({error}); run it again") from None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder's run was."""

    task: str
    mode: str
    variant: Variant
    jobs: tuple[Job, ...]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be removed ({error.strerror})") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value`, whole or not at all. Raises `InputError` naming the file."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
