"""The way to Ray: this process's one connection, to a cluster or to an instance of its own."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import queue
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from fusion.errors import ConfigError, ModelError, UnavailableError

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Of an instance of one's own: evidence is small and travels within calls."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGACTION_BYTES = 512
"""More than `struct sigaction` has anywhere."""


class Cluster:
    """Ray, started by the first `open` and ended by the last `close`, both in one thread that lives in between.

    An instance of one's own dies with the thread that started it, so that must not be one that reviews.
    """

    _lock = threading.Lock()
    _current: Cluster | None = None

    def __init__(self, address: str) -> None:
        self.address = address
        self.ray: Any = None
        self._users = 0
        self._wishes: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._error: Exception | None = None
        threading.Thread(target=self._live, name="ray", daemon=True).start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    @classmethod
    def open(cls, address: str) -> Cluster:
        """The connection. Raises `ModelError` without Ray, `ConfigError` for a second, `UnavailableError`."""
        with cls._lock:
            if cls._current is None:
                cls._current = cls(address)
            if cls._current.address != address:
                raise ConfigError(
                    f"reviewers on two Ray clusters ({cls._current.address or 'own'}, {address or 'own'}): "
                    "give all the same address"
                )
            cls._current._users += 1
            return cls._current

    def close(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            Cluster._current = None
            ended = threading.Event()
            self._wishes.put(ended)
            ended.wait()

    def _live(self) -> None:
        try:
            with _signals_kept():
                self.ray = _start(self.address)
        except Exception as error:  # noqa: BLE001 raised where it was asked for
            self._error = error
        self._ready.set()
        if self._error is None:
            ended = self._wishes.get()
            with _signals_kept():
                self.ray.shutdown()
            ended.set()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave SIGTERM and SIGINT to whoever has them: Ray would have the process abort. Python itself may not, off the
    main thread, so the C library is asked.
    """
    libc, kept = ctypes.CDLL(None), {number: ctypes.create_string_buffer(_SIGACTION_BYTES) for number in _SIGNALS}
    for number, action in kept.items():
        libc.sigaction(number, None, action)
    try:
        yield
    finally:
        for number, action in kept.items():
            libc.sigaction(number, action, None)


def _start(address: str) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "60")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # under `uv run` it would have replicas run all of that command
    if not address and "ray" not in sys.modules:  # nobody else may use it, without a file for its key; read on import
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    try:
        ray = importlib.import_module("ray")
        ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False  # where somebody imported it before
        logging.getLogger("ray").setLevel(logging.ERROR)
        services = logging.getLogger("ray._private.services")  # a dashboard that is not asked for may fail to start
        services.setLevel(logging.CRITICAL)
    except ImportError:
        raise ModelError("replicas need Ray: pip install 'fusion-stack[scale]'") from None
    common = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    common["configure_logging"] = False
    if address:
        wanted: dict[str, Any] = {"address": address}
        common.pop("include_dashboard")
    else:
        here = {"_node_ip_address": "127.0.0.1", "object_store_memory": OBJECT_STORE_BYTES}
        wanted = {"address": "local", "num_cpus": 1, **here}
    for last in (bool(address), True):  # an instance of one's own may come up too slowly on a busy machine
        try:
            ray.init(**wanted, **common)
        except Exception as error:  # whatever Ray raises, it is not there
            ray.shutdown()
            if last:
                reason = " ".join(str(error).split())[:300]
                raise UnavailableError(f"Ray ({address or 'own instance'}): {reason}") from error
        else:
            break
    return ray
