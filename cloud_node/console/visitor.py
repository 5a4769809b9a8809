"""Who is looking: signed session cookies, CSRF tokens bound to them, and logins that get slower with every failure."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

from cloud_node.console.settings import ConsoleSettings
from cloud_node.console.throttle import Throttle
from cloud_node.console.users import Role, UserFile, password_fits

LOCAL = "local"
"""Who corrects when there are no users: whoever is on this machine."""

_COOKIE = "fusion-console"
_MOST_ENDED = 100_000


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser. `name` is empty until somebody logs in; `session` is what CSRF tokens are bound to."""

    session: str
    name: str = ""
    role: Role = Role.VIEWER

    @property
    def known(self) -> bool:
        """Whether it may see anything."""
        return bool(self.name)

    @property
    def may_correct(self) -> bool:
        """Whether it may change anything."""
        return self.known and self.role is Role.REVIEWER


class Door:
    """Lets people in. Secrets live as long as the process: a restart ends all sessions."""

    def __init__(self, settings: ConsoleSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._users = UserFile(settings.users) if settings.users else None
        self._throttle = Throttle(clock)
        self._key = secrets.token_bytes(32)
        self._signer = URLSafeTimedSerializer(secrets.token_hex(32), salt="session")
        self._ended: dict[str, None] = {}
        self._lock = threading.Lock()

    @property
    def guarded(self) -> bool:
        """Whether one must log in."""
        return self._users is not None

    def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends `request`."""
        if self._users is None:
            return Visitor(LOCAL, LOCAL, Role.REVIEWER)
        try:
            seconds = round(self._settings.session_hours * 3600)
            session, name, stamp = self._signer.loads(request.cookies.get(self._cookie, ""), max_age=seconds)
        except (BadSignature, ValueError, TypeError):
            return Visitor(secrets.token_hex(16))
        user = self._users.find(name) if name else None
        if user is None or user.stamp != stamp or session in self._ended:
            return Visitor(secrets.token_hex(16) if name else session)
        return Visitor(session, user.name, user.role)

    def token(self, visitor: Visitor) -> str:
        """What every form of this visitor must bring back."""
        return hmac.new(self._key, visitor.session.encode(), hashlib.sha256).hexdigest()

    def token_fits(self, visitor: Visitor, token: str) -> bool:
        """Whether a form is one that this visitor was given."""
        return hmac.compare_digest(self.token(visitor).encode(), token.encode("utf-8", "replace"))

    def wait_s(self, address: str, name: str) -> float:
        """How long a login from `address` as `name` must still wait."""
        return self._throttle.wait_s(f"from {address}", f"as {name}")

    def log_in(self, address: str, name: str, password: str) -> Visitor | None:
        """A new session, or None for a wrong name or password. Takes a tenth of a second, on purpose."""
        assert self._users is not None
        keys = f"from {address}", f"as {name}"
        user = self._users.find(name)
        if not password_fits(user, password) or user is None:
            self._throttle.failed(*keys)
            return None
        self._throttle.succeeded(*keys)
        return Visitor(secrets.token_hex(16), user.name, user.role)

    def log_out(self, visitor: Visitor) -> None:
        """End the session, whoever kept its cookie."""
        with self._lock:
            self._ended[visitor.session] = None
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def remember(self, response: Response, visitor: Visitor) -> None:
        """Give the browser its cookie."""
        user = self._users.find(visitor.name) if self._users and visitor.name else None
        value = self._signer.dumps([visitor.session, visitor.name, user.stamp if user else ""])
        response.set_cookie(
            self._cookie,
            str(value),
            max_age=round(self._settings.session_hours * 3600) if visitor.known else None,
            httponly=True,
            samesite="strict",
            secure=self._settings.encrypted,
        )

    def address(self, request: HTTPConnection) -> str:
        """Where `request` comes from: the peer, or what the proxy in front says of its own peer."""
        forwarded = request.headers.get("x-forwarded-for", "") if self._settings.behind_proxy else ""
        return forwarded.rpartition(",")[2].strip() or (request.client.host if request.client else "")

    @property
    def _cookie(self) -> str:
        """`__Host-` makes browsers refuse it from anywhere but this very host over HTTPS."""
        return f"__Host-{_COOKIE}" if self._settings.encrypted else _COOKIE
