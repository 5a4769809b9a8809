"""`edge-node top`: asks a daemon each second and shows what changed."""

from __future__ import annotations

import contextlib
import time
from collections import deque

from rich.console import Console, RenderableType
from rich.live import Live

from edge_node.top.scrape import Scrape, check_url, scrape
from edge_node.top.view import view
from fusion.errors import FusionError

WINDOW = 11
"""Rates and latencies are over the last ten intervals."""


def top(url: str, *, once: bool = False, interval_s: float = 1.0) -> None:
    """Show the daemon at `url` until interrupted; with `once` print what it did over one interval.

    Raises `UnavailableError` where nobody answers the first time.
    """
    url = check_url(url)
    seen: deque[Scrape] = deque([scrape(url, time.monotonic())], maxlen=WINDOW)
    console = Console(highlight=False)
    if once:
        time.sleep(interval_s)
        seen.append(scrape(url, time.monotonic()))
        console.print(view(url, seen))
        return
    live = Live(view(url, seen), console=console, auto_refresh=False, screen=True)
    with contextlib.suppress(KeyboardInterrupt), live:
        while True:
            time.sleep(interval_s)
            live.update(_next(url, seen), refresh=True)


def _next(url: str, seen: deque[Scrape]) -> RenderableType:
    try:
        seen.append(scrape(url, time.monotonic()))
    except FusionError as error:
        return view(url, seen, str(error))
    return view(url, seen)
