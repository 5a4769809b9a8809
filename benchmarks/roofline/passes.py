"""How a pass is run, timed, captured and cut off."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np
import torch

from fusion.model import build, memory
from roofline.card import Card

CPU_AUTOCAST = False
"""Few processors compute in bfloat16, and the others take minutes for a pass."""
SECONDS_A_ROW = 3.0


class OverTimeError(BaseException):
    """The time limit of a step has passed; no `Exception`, so that no library takes it for its own."""


@contextmanager
def running(device: torch.device) -> Iterator[None]:
    """No gradients, and bfloat16 where it loses nothing that matters."""
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or CPU_AUTOCAST):
        yield


@contextmanager
def everything_there() -> Iterator[None]:
    """All sensors of all samples are there, and the host need not ask the device: no token is looked for or masked."""
    with (
        mock.patch.object(memory, "_dropped", lambda keys, values, _mask: (keys, values, None)),
        mock.patch.object(build, "_for_rows", lambda encoder, _rows, inputs: list(encoder(*inputs))),
    ):
        yield


def timed(run: Callable[[], Any], card: Card, rounds: int, most_s: float = SECONDS_A_ROW) -> tuple[float, float, int]:
    """Median and 99th percentile of milliseconds, and of how many rounds."""
    for _ in range(2):
        started = time.perf_counter()
        run()
        wait(card)
        once = time.perf_counter() - started
    rounds = max(5, min(rounds, int(most_s / max(once, 1e-4))))
    if card.device.type == "cpu":
        took = []
        for _ in range(rounds):
            started = time.perf_counter()
            run()
            took.append(1e3 * (time.perf_counter() - started))
    else:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
        for start, end in events:
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        took = [start.elapsed_time(end) for start, end in events]
    return float(np.median(took)), float(np.percentile(took, 99)), rounds


def wait(card: Card) -> None:
    """Until the device has done what it was given."""
    if card.device.type == "cuda":
        torch.cuda.synchronize()


def captured(run: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of `run`, after three warm-up rounds."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `OverTimeError` inside after `seconds`."""
    if seconds <= 0:
        raise OverTimeError("no time left")

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise OverTimeError("the time limit has passed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
