"""One request to a chat server, and what became of it."""

from __future__ import annotations

import json
import math
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from fusion.clock import Clock
from fusion.errors import UnavailableError

MAX_REPLY_BYTES = 4 * 1024 * 1024
_TOLD = 200
_KEEP_ALIVE_S = 30.0
_LONGEST_S = 600.0
_REFUSED = (400, 413, 415, 422)
_SECRET = (401, 403, 407)


class TryAgainError(UnavailableError):
    """No answer this time; `after_s` seconds is how long the server asked to wait, 0 where it did not."""

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class RefusedError(Exception):
    """The server finds fault with the request; the text is what it says."""


class Transport:
    """Connections to one server, kept alive, `connections` at most. Follows no redirect and uses no proxy."""

    def __init__(self, url: str, key: str | None, connections: int, clock: Clock) -> None:
        self._url = f"{url}/chat/completions"
        self._key = key
        self._clock = clock
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=None,  # noqa: S113 whoever asks bounds the whole of it
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEP_ALIVE_S
            ),
            follow_redirects=False,
            trust_env=False,
            verify=ssl.create_default_context(),
        )

    async def post(self, body: dict[str, Any]) -> bytes:
        """The answer. Raises `RefusedError`, `TryAgainError`, or `UnavailableError` where trying again is no use."""
        try:
            async with self._client.stream("POST", self._url, content=json.dumps(body).encode()) as response:
                content = await _read(response)
        except httpx.HTTPError as error:
            raise TryAgainError(f"cannot be reached ({type(error).__name__}: {_line(str(error))})") from None
        status = response.status_code
        if status == 200:
            return content
        if status in _REFUSED:
            raise RefusedError(self._said(content))
        if status == 429 or status >= 500:
            after_s = self._after_s(response.headers.get("retry-after", ""))
            raise TryAgainError(f"answers {status}: {self._said(content)}", after_s)
        if 300 <= status < 400:
            raise UnavailableError(f"answers {status}, a redirect, which is not followed; give the URL it leads to")
        said = "it wants another key" if status in _SECRET else self._said(content)
        raise UnavailableError(f"answers {status}: {said}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _said(self, content: bytes) -> str:
        text = content.decode("utf-8", "replace")
        return _line(text.replace(self._key, "[key]") if self._key else text)

    def _after_s(self, header: str) -> float:
        """`Retry-After` in seconds: a number of them, or a date."""
        try:
            asked_s = float(header)
            return min(max(0.0, asked_s), _LONGEST_S) if math.isfinite(asked_s) else 0.0
        except (ValueError, OverflowError):
            pass
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, TypeError, OverflowError):
            return 0.0
        now = datetime.fromtimestamp(self._clock.wall_ns() / 1e9, UTC)
        left_s = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
        return min(max(0.0, left_s), _LONGEST_S)


async def _read(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise UnavailableError("answers in an encoding that was not asked for")
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            raise UnavailableError(f"answers with more than {MAX_REPLY_BYTES} bytes")
    return bytes(content)


def _line(text: str) -> str:
    """`text` as one short line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _TOLD]).split())
    return line[:_TOLD] or "nothing more"
