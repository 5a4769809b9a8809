"""The device side of `transport.py`: ready-made messages through one stream, answers counted and not read.

python -m rivals.pumping ADDRESS BLOB_FILE MESSAGES WINDOW
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.types import ItemId, SampleId, new_epoch
from fusion.wire.channel import open_channel
from fusion.wire.convert import parse_evidence, serialize_evidence
from fusion.wire.envelope import write_device_message
from fusion.wire.messages import Hello, Submission
from fusion.wire.service import SERVICE_NAME

DEVICE = "pump"


def messages(blobs: Path, count: int) -> list[bytes]:
    """Hello, then `count` submissions, as they cross the wire."""
    epoch = new_epoch()
    examples = [parse_evidence(bytes.fromhex(line)) for line in blobs.read_text(encoding="ascii").split()]
    made = [write_device_message(Hello(DEVICE, epoch, "yard"))]
    for number in range(1, count + 1):
        item = ItemId(SampleId(DEVICE, epoch, number), 1)
        blob = serialize_evidence(replace(examples[number % len(examples)], item=item))
        made.append(write_device_message(Submission(item, blob)))
    return made


async def pump(address: str, made: list[bytes], window: int) -> dict[str, float]:
    """Messages a second with at most `window` unanswered; the first tenth warms up."""
    async with open_channel(address) as channel:
        exchange: Callable[[], Any] = channel.stream_stream(f"/{SERVICE_NAME}/Exchange")
        call, room = exchange(), asyncio.Semaphore(window)
        await call.write(made[0])
        await call.read()
        count, first = len(made) - 1, (len(made) - 1) // 10
        began_s = time.perf_counter()

        async def read() -> float:
            began = began_s
            for number in range(count):
                await call.read()
                room.release()
                if number + 1 == first:
                    began = time.perf_counter()
            return time.perf_counter() - began

        reading = asyncio.create_task(read())
        for message in made[1:]:
            await room.acquire()
            await call.write(message)
        seconds = await reading
        call.cancel()
        return {"messages_s": (count - first) / seconds}


def main() -> None:
    """One run."""
    address, blobs, count, window = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(asyncio.run(pump(address, messages(blobs, count), window))))


if __name__ == "__main__":
    main()
