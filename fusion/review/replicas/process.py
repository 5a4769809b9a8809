"""A replica's process: `python -m fusion.review.replicas.process SOCKET PARENT THREADS REVIEWER`.

It answers one call after the other, and ends when the socket does. Signals meant for the service, which a terminal or
systemd sends to all of its processes, are left to the service: it ends its replicas when it is done with them.
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection

from fusion.parent import end_with
from fusion.review.replicas.actor import Fault, ReplicaActor

STOP = ("stop", ())
"""What is sent while a call is at work, to have it end sooner."""
_CALLS = frozenset({"load", "example", "review", "explain"})


def main() -> None:
    """Serve until the other end is gone."""
    number, parent, threads, reviewer = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.set_inheritable(number, False)
    for meant in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(meant, signal.SIG_IGN)
    end_with(parent, signal.SIGKILL)  # also in the middle of a batch
    line = Connection(number)
    actor = ReplicaActor(reviewer, threads, carry_on=lambda: not line.poll(0))
    while True:
        try:
            asked = line.recv()
            if asked != STOP:
                _answer(line, actor, *asked)
        except (EOFError, ConnectionError):
            return


def _answer(line: Connection, actor: ReplicaActor, method: str, arguments: tuple[object, ...]) -> None:
    assert method in _CALLS
    told = getattr(actor, method)(*arguments)
    try:
        line.send(told)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001 an answer that does not pickle is told as any other fault
        line.send(Fault.of(error))


if __name__ == "__main__":
    main()
