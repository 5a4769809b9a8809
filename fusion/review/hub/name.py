"""What follows `hf:` in a reviewer's name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from fusion.config import Settings
from fusion.errors import ConfigError
from fusion.review.options import read_options


class HubName(Settings):
    """`NAME-OR-PATH?task=TASK` or `NAME-OR-PATH?projector=FOLDER`, and how the model is run.

    `where` is a folder, or a name of the hub that is in the local cache or can be fetched. `projector` is what
    `fusion train projector` made for this very model; it knows its task, its crops' size and
    its calibration. `calibration` is a file that `fusion calibrate reviewer` made. Without a projector `side` pixels
    a side is what crops are scaled to before the model's own processor sees them. `compile` says whether layers are
    compiled and rows packed, None that they are on a GPU; answers are the same but for rounding.
    """

    where: str = Field(min_length=1)
    task: str = ""
    projector: str = ""
    calibration: str = ""
    side: int = Field(default=224, ge=28, le=1024)
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool | None = None

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read it. Raises `ConfigError` that says what is missing or unknown."""
        where, _, asked = argument.partition("?")
        given = read_options(asked)
        if given.get("projector") and given.get("calibration"):
            raise ConfigError(f"reviewer hf:{argument}: a projector's folder has its own calibration; give one of both")
        if not given.get("task") and not given.get("projector"):
            raise ConfigError(f"reviewer hf:{argument}: whose questions? give hf:{where or 'NAME-OR-PATH'}?task=TASK")
        try:
            return cls.model_validate({"where": where, **given})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ConfigError(f"reviewer hf:{argument}: {field}: {first['msg']}") from None

    @property
    def compiled(self) -> bool:
        """Whether layers are compiled and rows packed."""
        return self.device != "cpu" if self.compile is None else self.compile

    @property
    def folder(self) -> Path | None:
        """The folder meant, None for a name of the hub."""
        path = Path(self.where)
        return path if path.is_dir() else None
