"""What TensorBoard shows of a training run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fusion.errors import ConfigError

FOLDER = "tensorboard"
"""Of a run's folder."""


class EventLog:
    """Curves of a run; one without a `writer` drops them."""

    def __init__(self, writer: Any = None) -> None:
        self._writer = writer

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """One point at `step` for every curve `GROUP/NAME`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)


@contextmanager
def event_log(run: Path, *, wanted: bool | None, step: int = 0) -> Iterator[EventLog]:
    """A log in the folder `tensorboard` of `run`, whose curves go on after `step`: later points of a run that was
    killed are forgotten.

    `wanted` None means: if TensorBoard is installed, else a note. Raises `ConfigError` if it is wanted but missing.
    """
    missing = find_spec("tensorboard") is None
    if missing and wanted:
        raise ConfigError("--tensorboard: TensorBoard is not installed; install fusion-stack[train]")
    if missing and wanted is None:
        tqdm.write("no curves are kept: TensorBoard is not installed (fusion-stack[train])")
    if missing or wanted is False:
        yield EventLog()
        return
    from torch.utils.tensorboard import SummaryWriter

    folder: Any = SummaryWriter
    with folder(str(run / FOLDER), purge_step=step + 1) as writer:
        yield EventLog(writer)
