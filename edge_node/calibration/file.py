"""What a calibration came to, kept beside the models it holds for, and put to use by the daemon."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from edge_node.config import EdgeSettings, Share
from fusion.config import Settings
from fusion.errors import ConfigError
from fusion.json_text import parse_json
from fusion.task import Task

FORMAT = 1
_FREE = {"suspect_above", "audit_rate", "seed", "calibration"}
"""Screening keys that a promise does not rest on: the lottery only adds to what is found."""
_log = logging.getLogger(__name__)


class Calibration(Settings):
    """The threshold and what it rests on. `models` are the versions in evidence, `policy` every setting that the
    decisions hang on; a defect counts once the share `visibility` of it is in view and it is `side` pixels across.
    Shares are of defects (`missed` in the recordings, `promised` of new ones) and of items.
    """

    format: int = FORMAT
    task: str
    models: dict[str, str]
    policy: dict[str, Any]
    visibility: Share
    side: float = Field(ge=0)
    alpha: Share
    suspect_above: Share
    defects: int = Field(ge=0)
    recordings: int = Field(ge=0)
    missed: Share
    promised: float
    share: Share
    per_minute: float = Field(ge=0)
    curve: tuple[dict[str, Any], ...] = ()

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read one. Raises `ConfigError` naming the file and what is wrong with it."""
        try:
            found = cls.model_validate(parse_json(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); 'edge-node calibrate' writes one") from None
        except (ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{path}: not a calibration ({reason}); 'edge-node calibrate' writes one") from None
        if found.format != FORMAT:
            raise ConfigError(f"{path}: format {found.format}; this program reads format {FORMAT}")
        return found

    def save(self, path: Path) -> None:
        """Write it. Raises `ConfigError` when that cannot be done."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def policy_of(settings: EdgeSettings) -> dict[str, Any]:
    """Every setting that decides what is detected, tracked and sent, flat, by its name in `edge.toml`."""
    parts = {name: getattr(settings, name) for name in ("engine", "synchronizer", "tracker", "screening")}
    flat = {f"{part}.{key}": value for part, held in parts.items() for key, value in held.model_dump().items()}
    left_out = {f"screening.{key}" for key in _FREE} | {"engine.threads", "engine.overlap", "engine.cache"}
    return {key: value for key, value in flat.items() if key not in left_out}


def calibrated(settings: EdgeSettings, task: Task, models: Mapping[str, str]) -> EdgeSettings:
    """`settings` with the threshold of `screening.calibration`, if it names a file.

    Raises `ConfigError` for a calibration of another task or other models; other settings than it was made with are
    told in the log, because the promise does not hold then.
    """
    if not settings.screening.calibration:
        return settings
    path = Path(settings.screening.calibration)
    found = Calibration.load(path)
    if found.task != task.name or dict(found.models) != dict(models):
        raise ConfigError(f"{path}: made for other models of task {found.task}; run 'edge-node calibrate' again")
    if settings.screening.suspect_above != 1.0:
        raise ConfigError("screening: set either calibration or suspect_above")
    for key, value in policy_of(settings).items():
        if found.policy.get(key) != value:
            _log.warning(
                "%s: made with %s = %s, now %s; its promise does not hold", path, key, found.policy.get(key), value
            )
    for other in sorted({gear.models for gear in settings.power.gears if gear.models}):
        _log.warning("%s: in the power gear with %s its promise does not hold", path, other)
    screening = settings.screening.model_copy(update={"suspect_above": found.suspect_above})
    return settings.model_copy(update={"screening": screening})
