"""Replicas as processes on this machine, each behind a socket of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from fusion.errors import ModelError, UnavailableError
from fusion.review.rationale import CarryOn
from fusion.review.replicas.actor import Fault, Introduction
from fusion.review.replicas.gpus import VISIBLE, Gpus
from fusion.review.replicas.host import EndedError
from fusion.review.replicas.name import ProcessName
from fusion.review.replicas.process import STOP

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ASK_S = 0.02
"""How often `carry_on` is asked."""
_END_S = 5.0
"""How long it may take a killed process to be gone, before that is no longer waited for."""

Slot = tuple[str, ...]


class ProcessHost:
    """See `Host`. GPUs for as many replicas as there may be are its own from the start."""

    def __init__(self, called: ProcessName) -> None:
        self._called = called
        self._gpus = Gpus.here()
        self._lock, self._closed = threading.Lock(), False
        self._free = deque(self._gpus.reserve(called.gpus, called.limits.most))
        self._running: set[ProcessActor] = set()

    def begin(self) -> ProcessActor | None:
        """See `Host.begin`."""
        with self._lock:
            if not self._free:
                return None
            slot = self._free.popleft()
        try:
            actor = ProcessActor(self._called.reviewer, self._called.cpus, slot, lambda: self._left(slot))
        except BaseException:
            self._left(slot)
            raise
        self._running.add(actor)
        actor.ended.add_done_callback(lambda _: self._running.discard(actor))
        return actor

    def resources(self) -> str:
        """See `Host.resources`."""
        return f"this machine has {os.cpu_count()} processors"

    def close(self) -> None:
        """Others may have its GPUs, each as soon as the process that has it has ended."""
        with self._lock:
            self._closed, free = True, list(self._free)
            self._free.clear()
        self._gpus.release(self._called.gpus, free)
        futures.wait([actor.ended for actor in list(self._running)], timeout=_END_S)

    def _left(self, slot: Slot) -> None:
        with self._lock:
            if not self._closed:
                self._free.append(slot)
                return
        self._gpus.release(self._called.gpus, [slot])


class ProcessActor:
    """See `Actor`. Whatever becomes of this process, the other ends with it. `left` is called when it has ended.

    Calls are answered in order, so one that failed is the last: the process is killed.
    """

    def __init__(self, reviewer: str, threads: int, gpus: Slot, left: Callable[[], None]) -> None:
        self.loaded: Future[Introduction | Fault] = Future()
        self.ended: Future[Any] = Future()
        self._how: Future[str] = Future()
        self._left = left
        self._turn, self._reaping, self._reaped = threading.Lock(), threading.Lock(), False
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            line = self._line = Connection(os.dup(ours.fileno()))
            undo.callback(line.close)
            self._socket = ours
            with theirs:
                self._process = _start(theirs.fileno(), reviewer, threads, gpus)
            undo.callback(self.kill)
            for work in (self._load, self._end):
                threading.Thread(target=work, name="replica", daemon=True).start()
            undo.pop_all()

    def call(self, method: str, argument: object, timeout_s: float, carry_on: CarryOn | None = None) -> Any:
        """See `Actor.call`."""
        try:
            data = pickle.dumps((method, (argument,)))
        except Exception as error:  # noqa: BLE001 whatever a row does, the replica is sound
            raise ModelError(f"cannot be sent to a replica ({type(error).__name__}: {error})") from None
        with self._turn:
            return self._exchange(data, timeout_s, carry_on)

    def kill(self) -> None:
        """See `Actor.kill`; also what it started itself."""
        with self._reaping:
            if not self._reaped:
                self._kill_group()
        self._hang_up()

    def _exchange(self, data: bytes, timeout_s: float | None, carry_on: CarryOn | None = None) -> Any:
        try:
            self._limit(timeout_s or 0.0)
            self._line.send_bytes(data)
            self._wait(timeout_s, carry_on)
            return self._line.recv()
        except (BlockingIOError, TimeoutError) as error:
            self.kill()
            raise TimeoutError from error
        except (EOFError, OSError) as error:
            self.kill()
            with contextlib.suppress(futures.TimeoutError):
                raise EndedError(self._how.result(_END_S)) from error
            raise
        except Exception:
            self.kill()
            raise

    def _wait(self, timeout_s: float | None, carry_on: CarryOn | None) -> None:
        """Return when there is an answer. Where it may end sooner it is told so first, and has as long again for it."""
        if carry_on is not None and timeout_s is not None:
            until = time.monotonic() + timeout_s
            while not self._line.poll(_ASK_S):
                if time.monotonic() >= until or not carry_on():
                    self._line.send(STOP)
                    break
        if not self._line.poll(timeout_s):
            raise TimeoutError

    def _limit(self, seconds: float) -> None:
        """Bound each write and read of the socket; 0 is no bound."""
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        for what in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, what, limit)

    def _load(self) -> None:
        try:
            with self._turn:
                told = self._exchange(pickle.dumps(("load", (True,))), None)
            self.loaded.set_result(told)
        except Exception as error:  # noqa: BLE001 whatever it was, this one will not come up
            how = str(error) if isinstance(error, EndedError) else f"{type(error).__name__}: {error}"
            self.loaded.set_exception(UnavailableError(how))

    def _end(self) -> None:
        """Wait for its end, which whoever waits for an answer learns by a line that was hung up. What it started itself
        ends with it, while its number is still its own.
        """
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            self._kill_group()
            how = _how(self._process.wait())
            self._reaped = True
        self._how.set_result(how)
        self._hang_up()
        with self._turn:
            self._line.close()
            self._socket.close()
        self._left()
        self.ended.set_result(how)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _start(line: int, reviewer: str, threads: int, gpus: Slot) -> subprocess.Popen[bytes]:
    """A replica's process, whose line is the descriptor `line`; what it prints goes where our errors go."""
    command = [sys.executable, "-P", "-m", "fusion.review.replicas.process"]
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), VISIBLE: ",".join(gpus)}
    return subprocess.Popen(
        [*command, str(line), str(os.getpid()), str(threads), reviewer], pass_fds=[line], env=environment,
        stdin=subprocess.DEVNULL, stdout=2, start_new_session=True,
    )  # fmt: skip


def _how(code: int) -> str:
    """How a process ended, for people."""
    if code >= 0:
        return f"it ended with status {code}; what it said is in the service's errors"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it was ended by {name}" + (", as by the kernel when memory runs out" if -code == signal.SIGKILL else "")
