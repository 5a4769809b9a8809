"""The files of a run a person or a program opens: `report.html`, `scene.rrd`, `summary.json`, `results.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from fusion.recording.base import RecordingReader
from replay.frames import FrameIndex
from replay.report import write_report
from replay.results import ItemResult, RunResults
from replay.utterances import utterances


def write_outputs(
    results: RunResults, open_reader: Callable[[], RecordingReader], out: Path, *, scene: bool = True
) -> None:
    """Write everything under `out` and say where."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(dict(results.summary), indent=1) + "\n", encoding="utf-8")
    (out / "results.json").write_text(results_json(results), encoding="utf-8")
    said = utterances(open_reader(), results.task)
    write_report(results, out / "report.html", FrameIndex(open_reader(), results.task), said=said)
    names = ["report.html", "summary.json", "results.json"]
    if scene:
        from replay.scene import write_rerun

        write_rerun(results, open_reader(), out / "scene.rrd")
        names.append("scene.rrd")
    for name in names:
        print(f"wrote {out / name}")


def results_json(results: RunResults) -> str:
    """What was decided and answered, and nothing that was measured with a clock: equal for equal runs."""
    items = [_plain(item) for item in results.items]
    text = json.dumps({"task": results.task.name, "items": items}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"sha256": digest, "task": results.task.name, "items": items}, sort_keys=True, indent=0) + "\n"


def _plain(item: ItemResult) -> dict[str, object]:
    return {
        "id": item.id,
        "time_ns": item.time_ns,
        "track": item.track,
        "box": [item.box.x1, item.box.y1, item.box.x2, item.box.y2],
        "label": item.label,
        "score": item.score,
        "state": item.state.value,
        "reasons": list(item.reasons),
        "into": item.into,
        "evidence_bytes": item.evidence_bytes,
        "lanes": list(item.lanes),
        "uncertain": item.uncertain,
        "verdict": {
            name: {"option": answer.option, "probabilities": dict(answer.probabilities)}
            for name, answer in item.verdict.items()
        },
        "truth": dict(item.truth_answers),
    }
