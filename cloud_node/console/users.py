"""Who may log in: a JSON file of names, roles and scrypt hashes, read again whenever it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError, InputError

MIN_PASSWORD = 10
MAX_PASSWORD = 1000
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
COST = 2**15
"""scrypt's n for new passwords; the file keeps what each was made with."""

_MOST_COST = 2**17
_R, _P = 8, 1


class Role(StrEnum):
    """What somebody may do: look, or also correct."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody in the file. `salt` and `digest` are hex, `cost` is the n of scrypt that made the digest."""

    name: str
    role: Role
    salt: str
    digest: str
    cost: int

    @property
    def stamp(self) -> str:
        """Changes with the password and the role, so that sessions of before end."""
        return hashlib.sha256(f"{self.salt}{self.digest}{self.role}".encode()).hexdigest()[:16]


def new_user(name: str, role: Role, password: str) -> User:
    """A user with a fresh salt; raises `InputError` for a name or password that will not do."""
    if not _NAME.fullmatch(name):
        raise InputError(f"user name {name!r} is not letters, digits and _.@- (at most 63, a letter or digit first)")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InputError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; this one has {len(password)}")
    salt = secrets.token_bytes(16)
    return User(name, role, salt.hex(), _scrypt(password, salt, COST).hex(), COST)


_NOBODY = User("", Role.VIEWER, secrets.token_hex(16), secrets.token_hex(32), COST)


def password_fits(user: User | None, password: str) -> bool:
    """Whether `password` is the user's; an unknown user takes as long to refuse as a known one."""
    checked = user or _NOBODY
    found = _scrypt(password[:MAX_PASSWORD], bytes.fromhex(checked.salt), checked.cost)
    return hmac.compare_digest(found, bytes.fromhex(checked.digest)) and user is not None


def read_users(path: Path) -> dict[str, User]:
    """The users of a file by name; raises `ConfigError` naming the file and what to do."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != _FORMAT:
            raise ConfigError(f"{path}: format {told['format']!r}; this program reads {_FORMAT}")
        return {name: _user(name, entry) for name, entry in told["users"].items()}
    except OSError as error:
        advice = "make it with `cloud-node user NAME --role reviewer`"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a file of users ({error!r}); make it with `cloud-node user`") from None


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Replace the file as a whole, readable by its owner alone; raises `ConfigError`."""
    entries = {
        name: {"role": user.role.value, "salt": user.salt, "n": user.cost, "scrypt": user.digest}
        for name, user in sorted(users.items())
    }
    text = json.dumps({"format": _FORMAT, "users": entries}, indent=1) + "\n"
    try:
        handle, made = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.resolve().parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


class UserFile:
    """The users of a file as it is now; a file that cannot be read lets nobody in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._users = read_users(path)
        self._seen = self._signature()

    def find(self, name: str) -> User | None:
        """The user, or None for nobody."""
        with self._lock:
            if (signature := self._signature()) != self._seen:
                self._seen = signature
                try:
                    self._users = read_users(self._path)
                except ConfigError:
                    self._users = {}
            return self._users.get(name)

    def _signature(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_size, found.st_ino


def _user(name: str, entry: Mapping[str, Any]) -> User:
    user = User(name, Role(entry["role"]), entry["salt"], entry["scrypt"], int(entry["n"]))
    if user.cost < 2 or user.cost > _MOST_COST or user.cost & (user.cost - 1):
        raise ValueError(f"n of {name} is {user.cost}")
    bytes.fromhex(user.salt)
    bytes.fromhex(user.digest)
    return user


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    told = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(told, salt=salt, n=cost, r=_R, p=_P, maxmem=256 * _R * cost, dklen=32)
