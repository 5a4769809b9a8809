"""Both nodes flat out for an hour on a looped recording: does memory stay flat, and do the books add up?

    python benchmarks/soak.py [--minutes 60] [--samples N] [--remember] [--recording FILE] [--out out/soak]

Real processes over loopback; the review service has the lowest priority, so that the device is never idle and a backlog
may form. Resident memory of both is read every few seconds; told are its growth in MiB an hour over the second half
(least squares, with the standard error of a line through means of ten readings), and the device's and the service's
books after the drain. With `--remember` the models' answers are remembered from the second lap on (`remembering.py`),
so that everything around them does several times as much in an hour. Writes `memory.png` and `soak.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from replay.live.demo import CLOUD_TOML, DEVICE, EDGE_TOML, bundled_recording
from replay.live.processes import Node, service, start
from replay.running.folder import LEDGER_NAME, SPOOL_NAME
from replay.running.lane import remove_database

mpl.use("Agg")
from matplotlib import pyplot as plt

EVERY_S = 5.0
GRACE_S = 300.0
STATES = ("pending", "passed", "reviewed", "deduplicated", "shed", "expired", "quarantined")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=0, help="end sooner, once so many are committed; 0 is never")
    parser.add_argument("--remember", action="store_true", help="say again what the models said of a frame")
    parser.add_argument("--recording", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in (SPOOL_NAME, LEDGER_NAME):
        remove_database(out / name)
    daemon = "remembering" if arguments.remember else "edge_node.cli"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    recording = arguments.recording or bundled_recording("yard")
    readings, summary = run(recording, out, arguments.minutes, arguments.samples, daemon)
    found = judge(readings, summary, out)
    (out / "soak.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(readings, out / "memory.png")
    print("\n".join(f"| {name} | {value} |" for name, value in found.items()))


def run(
    recording: Path, out: Path, minutes: float, samples: int, daemon: str
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Readings (n, 4): seconds, MiB of the device, MiB of the service, samples; and the device's own summary."""
    (out / "cloud.toml").write_text(CLOUD_TOML.format(task="yard", ledger=out / LEDGER_NAME), encoding="utf-8")
    told, readings = out / "edge.json", []
    with service(out / "cloud.toml", out / "cloud.log") as (cloud, address):
        text = EDGE_TOML.format(
            device=DEVICE, task="yard", recording=recording, pace='"flat-out"\nloop = true',
            spool=out / SPOOL_NAME, address=address,
        )  # fmt: skip
        (out / "edge.toml").write_text(f"{text}\n[drain]\ngrace_s = {GRACE_S}\n", encoding="utf-8")
        command = ["run", "--config", str(out / "edge.toml"), "--summary", str(told)]
        device, began = start(daemon, command, out / "edge.log"), time.monotonic()
        with tqdm(total=round(minutes * 60), desc="soak", unit="s") as progress:
            while device.running and time.monotonic() - began < minutes * 60:
                if samples and readings and readings[-1][3] >= samples:
                    break
                time.sleep(EVERY_S)
                passed = time.monotonic() - began
                readings.append((passed, resident_mib(device), resident_mib(cloud), samples_of(out / SPOOL_NAME)))
                progress.update(round(passed) - progress.n)
                progress.set_postfix(samples=readings[-1][3], edge_mib=round(readings[-1][1]))
        code = device.stop(GRACE_S + 60)
        if code:
            raise SystemExit(f"the edge daemon ended with {code}: {device.last_words()}; all of it in {device.log}")
    summary: dict[str, int] = json.loads(told.read_text(encoding="utf-8"))
    return np.array(readings, np.float64), summary


def judge(readings: NDArray[np.float64], summary: dict[str, int], out: Path) -> dict[str, object]:
    """What is told of the run."""
    db = sqlite3.connect(out / LEDGER_NAME)
    try:
        ids_of = "device || '/' || epoch || '/' || sequence || '#' || item"
        query = f"SELECT count(*), count(DISTINCT {ids_of}) FROM outcomes"
        ((verdicts, ids),) = db.execute(query).fetchall()
        ((told, told_items),) = db.execute("SELECT samples, items FROM reports").fetchall()
    finally:
        db.close()
    found: dict[str, object] = {"minutes": round(readings[-1, 0] / 60, 1), "samples": summary["samples"]}
    for column, name in ((1, "edge"), (2, "service")):
        slope, error = growth(readings[len(readings) // 2 :, 0], readings[len(readings) // 2 :, column])
        found[f"{name} MiB, half way and at the end"] = (
            f"{np.median(readings[len(readings) // 2 :][:10, column]):.0f}, {np.median(readings[-10:, column]):.0f}"
        )
        found[f"{name} MiB an hour, second half"] = f"{slope:+.1f} ± {2 * error:.1f}"
    items = {state: summary[state] for state in STATES}
    found |= {"items": summary["items"], **items, "gaps": summary["gaps"]}
    found["device's books add up"] = sum(items.values()) == summary["items"]
    found["verdicts in the service's ledger"] = verdicts
    found["ids twice in it"] = verdicts - ids
    found["reviewed on the device, unknown to the service"] = max(0, summary["reviewed"] - verdicts)
    reported = {state: count for state, count in json.loads(told_items).items() if count}
    same = reported == {state: count for state, count in items.items() if count} and told == summary["samples"]
    found["the service was told the same books"] = same
    return found


def growth(seconds: NDArray[np.float64], mib: NDArray[np.float64]) -> tuple[float, float]:
    """Slope in MiB an hour and its standard error; neighbours are averaged, since readings hang together."""
    whole = len(seconds) // 10 * 10
    if whole < 30:
        return float("nan"), float("nan")
    x, y = (part[:whole].reshape(-1, 10).mean(1) for part in (seconds / 3600, mib))
    (slope, _), covariance = np.polyfit(x, y, 1, cov="unscaled")
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(slope), float(np.sqrt(covariance[0, 0] * (residual @ residual) / max(1, len(x) - 2)))


def draw(readings: NDArray[np.float64], path: Path) -> None:
    """Memory of both nodes over time."""
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for column, name in ((1, "edge daemon"), (2, "review service")):
        axes.plot(readings[:, 0] / 60, readings[:, column], label=name)
    axes.set(xlabel="minutes", ylabel="resident MiB", ylim=(0, None))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def resident_mib(node: Node) -> float:
    """Resident memory of the node's process, as the kernel tells it."""
    for line in Path(f"/proc/{node.process.pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def samples_of(spool: Path) -> int:
    """Samples committed so far, those folded into totals counted in."""
    db = sqlite3.connect(f"file:{spool}?mode=ro", uri=True, timeout=5.0)
    try:
        return int(db.execute("SELECT coalesce(max(sequence), 0) FROM samples").fetchone()[0])
    finally:
        db.close()


if __name__ == "__main__":
    main()
