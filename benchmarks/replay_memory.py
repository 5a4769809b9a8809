"""Resident memory of `replay run`, gathering and report included, while a long synthetic recording passes through.

    python benchmarks/replay_memory.py [--gb 50] [--limit-mb 1000] [--out out/replay_memory]
    python benchmarks/replay_memory.py --gb 0.5         # a quick look

The recording is the bundled yard's first second again and again, its pictures twice as large and uncompressed: about
3.2 MB a moment, nothing of it on disk (`looped_reader`). Written are `memory.json` and `memory.png`; the exit code is 1
where the resident peak is over the limit. Of what is resident, `anonymous` is the program's own; the rest are pages of
libraries' files, which the system may drop. `loaded_mb` is what is resident when the first samples are through, and
`slope_mb_per_gb` what the second half of the pass grew by, anonymous.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from looped_reader import LoopedReader, byte_size

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "fusion/recordings/yard.mcap"
EVERY_S = 1.0


class Moment(NamedTuple):
    """`gigabytes` had passed through after `seconds`, with so much resident; `phase` is `pass` or `report`."""

    seconds: float
    gigabytes: float
    rss_mb: float
    anonymous_mb: float
    phase: str


def main() -> None:
    """Run it, write what came of it, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=50.0)
    parser.add_argument("--limit-mb", type=float, default=1000.0)
    parser.add_argument("--out", type=Path, default=Path("out/replay_memory"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="replay-memory-") as folder:
        found, code = watched(Path(folder), arguments.gb)
    told = summary(found, arguments.gb) | {"exit_code": code}
    (arguments.out / "memory.json").write_text(json.dumps(told | {"moments": found}, indent=1) + "\n")
    plot(found, arguments.limit_mb, arguments.out / "memory.png")
    print(json.dumps(told))
    sys.exit(code or int(told["peak_mb"] > arguments.limit_mb))


def watched(folder: Path, gigabytes: float) -> tuple[list[Moment], int]:
    """Run it in a process of its own, and look at that every second."""
    looped, out = folder / "yard.looped", folder / "out"
    told = {"recording": str(RECORDING), "moments": 10, "gigabytes": gigabytes, "scale": 2}
    looped.write_text(json.dumps(told))
    reader = LoopedReader.open(looped, None, None, salvage=False)
    sample_gb = sum(byte_size(reading.payload) for reading in reader.lap) / reader.moments / 1e9
    command = [sys.executable, "-m", "replay.cli", "run", str(looped), "--task", "yard", "--out", str(out)]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen([*command, "--no-scene", "--quiet"], env=environment(folder), stdout=log, stderr=log)
        began, found = time.monotonic(), list[Moment]()
        while process.poll() is None:
            phase = "report" if (out / "recordings/yard/done.json").exists() else "pass"
            passed = samples(out / "recordings/yard/spool.db") * sample_gb
            passing = round(time.monotonic() - began, 1), round(passed, 4)
            found.append(Moment(*passing, *resident_mb(process.pid), phase))
            time.sleep(EVERY_S)
        if process.returncode:
            log.seek(0)
            print(log.read(), file=sys.stderr)
    return found, process.returncode


def environment(folder: Path) -> dict[str, str]:
    """One in which `.looped` is a format of recordings."""
    plugin = folder / "plugin" / "looped-1.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: looped\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[fusion.readers]\nlooped = looped_reader:LoopedReader\n")
    paths = [str(plugin.parent), str(Path(__file__).parent), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def resident_mb(process: int) -> tuple[float, float]:
    """Megabytes, and of them anonymous; 0 of one that ended meanwhile."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    told = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    whole, own = (int(told[name][0]) / 1e3 * 1.024 if name in told else 0.0 for name in ("VmRSS", "RssAnon"))
    return round(whole, 1), round(own, 1)


def samples(spool: Path) -> int:
    """How many the spool holds."""
    try:
        with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT coalesce(max(sequence), 0) FROM samples").fetchone()[0])
    except sqlite3.Error:
        return 0


def summary(found: Sequence[Moment], gigabytes: float) -> dict[str, float]:
    """The figures."""
    passing = [one for one in found if one.phase == "pass" and one.gigabytes]
    late = [one for one in passing if one.gigabytes > passing[-1].gigabytes / 2]
    several = len({one.gigabytes for one in late}) > 1
    slope = np.polyfit([one.gigabytes for one in late], [one.anonymous_mb for one in late], 1)[0] if several else 0.0
    return {
        "gigabytes": gigabytes,
        "seconds": found[-1].seconds,
        "peak_mb": max(one.rss_mb for one in found),
        "peak_pass_mb": max(one.rss_mb for one in passing),
        "peak_anonymous_mb": max(one.anonymous_mb for one in found),
        "loaded_mb": passing[0].rss_mb,
        "slope_mb_per_gb": round(float(slope), 2),
    }


def plot(found: Sequence[Moment], limit_mb: float, path: Path) -> None:
    """Memory over time, the pass and the report apart."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for phase, colour in (("pass", "tab:blue"), ("report", "tab:orange")):
        mine = [one for one in found if one.phase == phase]
        minutes = [one.seconds / 60 for one in mine]
        axes.plot(minutes, [one.rss_mb for one in mine], color=colour, label=phase)
        axes.plot(minutes, [one.anonymous_mb for one in mine], color=colour, linestyle=":", label=f"{phase}, anonymous")
    axes.axhline(limit_mb, color="tab:red", linestyle="--", label="limit")
    axes.set(xlabel="minutes", ylabel="resident, MB", ylim=(0, None))
    axes.set_title(f"replay run, {found[-1].gigabytes:.1f} GB of decoded readings")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
