"""(f) Ray Serve's `@serve.batch` with our scorer inside, evidence as the body of a request.

    python -m rivals.ray_batch SETTING

One replica; two batches of requests may be with it, so that it never waits for the next. Ray itself is kept small.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from rivals.scorer import Scorer
from rivals.setting import Setting

MEMORY_BYTES = 100 * 1024 * 1024


def app_of(setting: Setting) -> Any:
    """The application."""
    most = setting.most_waiting or -1

    @serve.deployment(
        max_ongoing_requests=2 * setting.batch, max_queued_requests=most, ray_actor_options={"num_cpus": 1}
    )
    class Reviews:
        def __init__(self) -> None:
            self.scorer = Scorer(setting.reviewer, setting.threads)

        @serve.batch(max_batch_size=setting.batch, batch_wait_timeout_s=setting.wait_ms / 1e3)
        async def review(self, blobs: list[bytes]) -> list[dict[str, Any]]:
            return self.scorer.score(blobs)

        async def __call__(self, request: Request) -> JSONResponse:
            return JSONResponse(await self.review(await request.body()))

    return Reviews.bind()


def main() -> None:
    """Until ended."""
    setting = Setting.of_command()
    ray.init(num_cpus=1, object_store_memory=MEMORY_BYTES, include_dashboard=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": setting.port})
    serve.run(app_of(setting))
    print(f"ready on http://127.0.0.1:{setting.port}/", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
