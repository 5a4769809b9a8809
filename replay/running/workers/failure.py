"""Why a recording was not run to its end, in a form that crosses processes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from fusion import errors
from fusion.errors import FusionError, OverloadedError, UnavailableError

_KINDS: Mapping[str, type[FusionError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, FusionError) and kind is not OverloadedError
}


class WorkerDefect(Exception):  # noqa: N818 the program is wrong, not what it was given
    """Something that is no `FusionError` went wrong in a worker; the text holds its traceback."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as plain text: the nearest kind that both ends know, and what it says."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """`kind` is empty for what is no `FusionError`, and the text its traceback."""
        if isinstance(error, FusionError):
            return cls(next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS), str(error))
        return cls("", f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}")

    @property
    def error(self) -> FusionError | WorkerDefect:
        """The same as an error here."""
        return _KINDS[self.kind](self.text) if self.kind else WorkerDefect(self.text)


class LostWorkerError(UnavailableError):
    """A worker died at a recording, and so did the one that tried it again."""
