"""A chat server in a thread that answers as a test says, and a reviewer that asks it without ever waiting."""

import json
import math
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fusion.clock import ManualClock
from fusion.codec.synthetic import synthetic_profile
from fusion.review.remote.name import RemoteName
from fusion.review.remote.reviewer import OpenAiReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.types import Box2D, PixelCrop

SURE = {"object": "drum", "condition": "leaking", "asked": "yes", "action": "contain"}


def completion(content, logprobs=None):
    if not isinstance(content, str):
        content = json.dumps(content)
    return {"choices": [{"message": {"role": "assistant", "content": content}, "logprobs": logprobs}]}


def tokens(*told):
    """Logprobs of tokens given as text, or as (text, {alternative: probability})."""
    entries = []
    for one in told:
        text, top = one if isinstance(one, tuple) else (one, {one: 1.0})
        tops = [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in top.items()]
        own = math.log(top.get(text, 1e-9))
        entries.append({"token": text, "logprob": own, "bytes": list(text.encode()), "top_logprobs": tops})
    return {"content": entries}


@dataclass
class Answer:
    body: object = field(default_factory=lambda: completion(SURE))
    status: int = 200
    headers: dict = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False
    hang_up: bool = False


class FakeServer:
    """`answer(body, count)` gives the `Answer` to the request `body`, the `count`th (from 1)."""

    def __init__(self):
        self.answer = lambda body, count: Answer()
        self.asked, self.headers, self.peers = [], [], set()
        self.at_work = self.most_at_work = 0
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer: no delayed acknowledgement to wait for

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    fake.asked.append(body)
                    fake.headers.append(dict(self.headers))
                    fake.peers.add(self.client_address)
                    count = len(fake.asked)
                    fake.at_work += 1
                    fake.most_at_work = max(fake.most_at_work, fake.at_work)
                answer = fake.answer(body, count)
                time.sleep(answer.delay_s)
                with fake._lock:
                    fake.at_work -= 1
                if answer.cut:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = answer.hang_up

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_):  # a client that gave up waiting is part of the test
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def chat():
    """What a test says a server answers."""
    return SimpleNamespace(SURE=SURE, Answer=Answer, completion=completion, tokens=tokens, crop=crop)


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def clock():
    return ManualClock(1)


@pytest.fixture
def naps():
    """What the reviewer would have waited, seconds."""
    return []


@pytest.fixture
def make_reviewer(server, clock, naps, yard, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = []

    async def sleep(seconds):
        naps.append(seconds)

    def make(**settings):
        url = settings.pop("url", f"http://127.0.0.1:{server.port}/v1")
        called = RemoteName(url=url, model="org/model", task="yard", **settings)
        made.append(OpenAiReviewer(called, yard, clock=clock, sleep=sleep, jitter=lambda: 0.5))
        return made[-1]

    yield make
    for one in made:
        one.close()


def crop(seed=0, size=96, form=".jpg"):
    pixels = np.random.default_rng(seed).integers(0, (80, 160, 240), (size, size // 2, 3), np.uint8)
    return PixelCrop(cv2.imencode(form, pixels)[1].tobytes(), form[1:], Box2D(0, 0, size, size))


@pytest.fixture(scope="session")
def make_evidence(yard):
    profile = synthetic_profile(task="yard")

    def make(seed, pixels=None, *, shown=True):
        evidence, _ = synthetic_evidence(yard, profile, seed)
        return replace(evidence, pixels=(pixels or crop(seed)) if shown else None)

    return make
