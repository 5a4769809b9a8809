"""The log as JSON: one object a line, whatever is logged."""

import json
import logging
import subprocess
import sys

from cloud_node.logs import JsonFormatter
from fusion.types import ItemId, SampleId

ITEM = ItemId(SampleId("cart-1", "0123456789abcdef", 7), 1)
SCRIPT = """
import logging
from cloud_node.logs import start_log
start_log("info", "json")
log = logging.getLogger("cloud_node.x")
log.debug("unseen")
log.info("two\\nlines")
"""


def test_a_process_writes_one_object_a_line():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert set(told) == {"time", "level", "logger", "message"}
    assert (told["level"], told["logger"], told["message"]) == ("info", "cloud_node.x", "two\nlines")
    assert told["time"].endswith("+00:00")


def test_an_item_among_the_arguments_is_told_with_its_device_and_an_error_with_its_traceback():
    try:
        raise ValueError("cause")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "%s cannot score %s", ("r", ITEM), sys.exc_info())
    told = json.loads(JsonFormatter().format(record))
    assert (told["item"], told["device"]) == (str(ITEM), "cart-1")
    assert told["message"] == f"r cannot score {ITEM}"
    assert "ValueError: cause" in told["error"]
