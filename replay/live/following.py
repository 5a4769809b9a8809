"""A daemon that runs as a process, watched through its spool until it ends."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from tqdm import tqdm

from fusion.errors import ConfigError, FusionError, InputError, ModelError, ProtocolError, SpoolError, UnavailableError
from replay.live.processes import Node

_KINDS: dict[int, type[FusionError]] = {
    kind.exit_code: kind for kind in (ConfigError, InputError, ModelError, UnavailableError, ProtocolError, SpoolError)
}


def follow(node: Node, spool: Path, total: int, name: str = "patrol") -> None:
    """Show the daemon's progress until it ends; see `failure` for how."""
    with tqdm(total=total, desc=name, unit="sample") as progress:
        while node.running:
            samples, waiting, reviewed = _state(spool)
            progress.update(max(0, samples - progress.n))
            progress.set_postfix(reviewed=reviewed, waiting=waiting)
            time.sleep(0.25)
        samples, waiting, reviewed = _state(spool)
        progress.update(max(0, samples - progress.n))
        progress.set_postfix(reviewed=reviewed, waiting=waiting)


def failure(node: Node) -> FusionError | None:
    """Why an ended daemon failed, in its last words and with its own exit code; None when it did not."""
    code = node.process.returncode
    if not code:
        return None
    words = node.last_words().removeprefix("edge-node: ")
    return _KINDS.get(code, UnavailableError)(f"the edge daemon failed: {words}; all of it in {node.log}")


def _state(spool: Path) -> tuple[int, int, int]:
    """Samples processed, items waiting, items reviewed; zeros while the spool cannot be read yet."""
    try:
        db = sqlite3.connect(f"{spool.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            (samples,) = db.execute("SELECT count(*) FROM samples").fetchone()
            (waiting,) = db.execute("SELECT count(*) FROM outbox").fetchone()
            (reviewed,) = db.execute("SELECT count(*) FROM items WHERE state = 'reviewed'").fetchone()
        finally:
            db.close()
    except sqlite3.Error:
        return 0, 0, 0
    return samples, waiting, reviewed
