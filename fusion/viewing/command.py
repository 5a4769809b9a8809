"""`fusion perceive`: read, synchronize, encode, fuse, and show what the heads say."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from fusion.errors import ConfigError, RecordingError
from fusion.preparation.fusion_spec import BEV
from fusion.viewing.absence import withheld_sensors
from fusion.viewing.models import ChosenModel, choose_model
from fusion.viewing.moments import Choice, choice_of
from fusion.viewing.record import frame_record, record_of, write_record
from fusion.viewing.seen import Part, SeenFrame
from fusion.viewing.sheet import FORMATS, OTHER_FORMATS, sheet, view_of, write_picture


class Viewer(Protocol):
    """A model that looks at a recording."""

    def frames(self, choice: Choice) -> Iterator[SeenFrame]:
        """The moments that `choice` picks, in the order of time."""


def perceive(arguments: argparse.Namespace) -> None:
    """`fusion perceive`. Raises `FusionError` naming the option, sensor, model or file that is wrong."""
    out = Path(arguments.out)
    single = out.suffix.lower() in FORMATS
    choice = _choice(arguments, single=single)
    chosen = choose_model(arguments.recording, arguments.task, arguments.model, arguments.split)
    viewer = _viewer(chosen, withheld_sensors(arguments.without, chosen.task), arguments)
    view = view_of(chosen.task, dotted=arguments.points)
    records: list[dict[str, Any]] = []
    for frame in viewer.frames(choice):
        path = out if single else out / f"{frame.at_s:010.3f}s.png"
        write_picture(sheet(frame, chosen.task, view, arguments.recording.name, truth=arguments.truth), path)
        records.append(frame_record(frame, truth=arguments.truth))
        tqdm.write(f"wrote {path}: {told(frame)}")
    if not records:
        raise RecordingError(f"{arguments.recording}: no moment from second {choice.due_s:g} on")
    if arguments.json:
        write_record(arguments.json, record_of(records, arguments.recording.name, chosen))


def _choice(arguments: argparse.Namespace, *, single: bool) -> Choice:
    """The moments that are wanted, once the options make sense."""
    if not 0 <= arguments.score <= 1:
        raise ConfigError(f"--score {arguments.score:g}: give a number in 0..1")
    if arguments.threads < 1:
        raise ConfigError(f"--threads {arguments.threads}: give 1 or more")
    out = Path(arguments.out)
    if out.suffix.lower() in OTHER_FORMATS and not out.is_dir():
        raise ConfigError(f"{out}: pictures are .png, .jpg or .jpeg; give one of these for one moment, else a folder")
    if not single and out.is_file():
        raise ConfigError(f"{out}: is a file; give -o a .png or .jpg for one moment or a folder for several")
    return choice_of(at_s=arguments.at, every_s=arguments.every, limit=arguments.limit, single=single)


def told(frame: SeenFrame) -> str:
    """A moment in one line: what was found, by which sensors, without which, and what was heard."""
    counts = Counter(one.label for one in frame.objects)
    found = ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing found"
    return "; ".join([found, *_sensors(frame), *_speech(frame)])


def _sensors(frame: SeenFrame) -> Sequence[str]:
    read = [sensor.text for sensor in frame.sensors if sensor.part is Part.READ]
    others = [sensor.text for sensor in frame.sensors if sensor.part is not Part.READ]
    return [
        f"from {', '.join(read)}" if read else "from no sensor at all",
        *([f"without {', '.join(others)}"] if others else []),
    ]


def _speech(frame: SeenFrame) -> Sequence[str]:
    if frame.heard is None:
        return []
    asked = [f"{one.condition or ''} {one.label}".strip() for one in frame.objects if one.asked]
    return [f"heard {frame.heard.intent} {frame.heard.score:.2f}", *(f"asked for: {name}" for name in asked)]


def _viewer(chosen: ChosenModel, withheld: frozenset[str], arguments: argparse.Namespace) -> Viewer:
    """Each kind of model imports only what it needs: a bundle runs without torch."""
    if chosen.spec.layout == BEV:
        import torch

        from fusion.viewing.ground import GroundViewer

        torch.set_num_threads(arguments.threads)
        return GroundViewer(arguments.recording, chosen, withheld, floor=arguments.score, split=arguments.split)
    from fusion.viewing.items import ItemViewer

    return ItemViewer(
        arguments.recording,
        chosen,
        withheld,
        floor=arguments.score,
        split=arguments.split,
        threads=arguments.threads,
    )
