"""What follows `openai:` in a reviewer's name."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from fusion.config import Settings
from fusion.errors import ConfigError
from fusion.review.options import read_options

DEFAULT_KEY_ENV = "OPENAI_API_KEY"
_MODEL_SHOWN = 96
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.:/@+-]+")


class RemoteName(Settings):
    """`URL#MODEL?task=TASK`, and how the server is asked.

    `side` pixels is what the longer side of a crop is scaled down to. `timeout_s` seconds is what one row may take,
    `retries` more attempts and the waiting between them included. `concurrent` rows are asked at once. `confidence` is
    what a told option is assumed to be worth where the server tells no probabilities. After `failures` rows in a row
    that failed, nothing is asked for `open_s` seconds. `key_env` names the environment variable that holds the key.
    `calibration` is a file that `fusion calibrate reviewer` made.
    """

    url: str
    model: str = Field(min_length=1)
    task: str
    side: int = Field(default=224, ge=28, le=1024)
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    concurrent: int = Field(default=16, ge=1, le=256)
    retries: int = Field(default=2, ge=0, le=10)
    confidence: float = Field(default=0.7, gt=0.5, lt=1)
    failures: int = Field(default=5, ge=1)
    open_s: float = Field(default=30.0, gt=0)
    calibration: str = ""
    key_env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")

    @field_validator("url")
    @classmethod
    def _is_base(cls, url: str) -> str:
        if not url.isprintable() or " " in url:
            raise ValueError("has characters that no URL has")
        if "@" in url:
            raise ValueError("a key is read from the environment (key_env=NAME), never from the URL")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and parts.port != 0
        except ValueError:  # a port that is none
            usable = False
        if not usable:
            raise ValueError("not of the form http://HOST:PORT/v1 or https://HOST/v1")
        return url.rstrip("/")

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read it. Raises `ConfigError` that says what is missing or unknown, and shows no secret."""
        url, _, rest = argument.partition("#")
        model, _, asked = rest.partition("?")
        shown = f"reviewer openai:{_without_user(url.partition('?')[0])}#{model}"
        if not model:
            raise ConfigError(f"{shown}: which model? give openai:URL#MODEL?task=TASK")
        given = read_options(asked)
        if "task" not in given:
            raise ConfigError(f"{shown}: whose questions? give openai:URL#MODEL?task=TASK")
        try:
            return cls.model_validate({"url": url, "model": model, **given})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{shown}: {field}: {first['msg']}") from None

    @property
    def called(self) -> str:
        """Model and host, and a digest of all that can change an answer; plain characters only."""
        asked = (self.url, self.model, self.task, self.side, self.confidence)
        digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
        host = _NOT_A_NAME.sub("-", urlsplit(self.url).netloc)[:64]
        return f"openai:{_NOT_A_NAME.sub('-', self.model)[-_MODEL_SHOWN:]}@{host}@{digest}"

    def key(self) -> str | None:
        """The key to show the server, None for none. Raises `ConfigError` where the named variable holds none."""
        key = os.environ.get(self.key_env or DEFAULT_KEY_ENV, "").strip()
        if self.key_env and not key:
            raise ConfigError(f"reviewer openai:{self.url}: the environment variable {self.key_env} holds no key")
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"reviewer openai:{self.url}: its key has characters that no header can carry")
        return key or None


def _without_user(url: str) -> str:
    """`url` without anything that could be a name and a password."""
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}" if slashes else url.rpartition("@")[2]
