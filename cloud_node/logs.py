"""The service's log on standard error: lines for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from fusion.tracing import trace_id
from fusion.types import ItemId

TEXT = "%(asctime)s %(name)s %(levelname)s: %(message)s"


def start_log(level: str, form: str, *, traced: bool = False) -> None:
    """Log from `level` on, as `form`: "text" or "json"; `traced` tells items' traces in the latter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(traced=traced) if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `logger`, `message`; `item` and `device` when an item is among the arguments,
    `trace_id` too when items are `traced`, and `error` with a traceback.
    """

    def __init__(self, *, traced: bool = False) -> None:
        super().__init__()
        self._traced = traced

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        arguments = record.args if isinstance(record.args, tuple) else ()
        for item in arguments:
            if isinstance(item, ItemId):
                told |= {"item": str(item), "device": item.sample.device}
                if self._traced:
                    told["trace_id"] = trace_id(item)
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told)
