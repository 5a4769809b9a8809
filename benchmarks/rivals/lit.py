"""(e) LitServe with our scorer inside: `max_batch_size` and `batch_timeout`, evidence as base64 in JSON.

    python -m rivals.lit SETTING

Annotations are not postponed here: LitServe reads that of `request`.
"""

import base64
from typing import Any

import litserve
from fastapi import Request

from rivals.scorer import Scorer
from rivals.setting import Setting


class Api(litserve.LitAPI):
    """The four hooks a user writes. `setting` crosses to the worker with it."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(max_batch_size=setting.batch, batch_timeout=setting.wait_ms / 1e3)
        self.setting = setting
        self.scorer: Scorer | None = None

    def setup(self, device: Any) -> None:
        """In the worker."""
        del device
        self.scorer = Scorer(self.setting.reviewer, self.setting.threads)

    def decode_request(self, request: Request) -> bytes:
        """JSON to bytes."""
        return base64.b64decode(request["evidence"])  # type: ignore[index]  # LitServe gives the JSON

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """As they are."""
        return inputs

    def predict(self, x: list[bytes] | bytes) -> list[dict[str, Any]]:
        """A batch."""
        assert self.scorer is not None
        return self.scorer.score([x] if isinstance(x, bytes) else x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As they are."""
        return output

    def encode_response(self, output: Any) -> Any:
        """To JSON."""
        return output


def main() -> None:
    """Until ended."""
    setting = Setting.of_command()
    timeout = setting.queue_timeout_s or 30
    server = litserve.LitServer(Api(setting), accelerator="cpu", devices=1, workers_per_device=1, timeout=timeout)
    server.run(host="127.0.0.1", port=setting.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
