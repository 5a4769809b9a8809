"""Both nodes as real processes over loopback, either killed at random: nothing lost, nothing twice."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from ..ports import free_address

PROGRAM = Path(__file__).parent / "programs" / "daemon_with_fakes.py"
CLOUD = Path(sys.executable).parent / "cloud-node"
FRAMES = 300


class Cloud:
    """`cloud-node serve` with the fixed reviewer, killed and started again on the same port and ledger."""

    def __init__(self, folder: Path) -> None:
        self.address = free_address()
        self.ledger = folder / "ledger.db"
        self.kills = 0
        self._log = (folder / "cloud.log").open("a")
        self.start()

    def start(self) -> None:
        settings = {"listen": self.address, "reviewers": '["fixed:yard"]', "ledger": self.ledger}
        overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        self.process = subprocess.Popen(
            [CLOUD, "serve", *overrides], stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self.process.stdout.readline().startswith("ready on")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.kills += 1

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)
        self._log.close()


def test_either_side_killed_at_random_loses_nothing_and_reviews_nothing_twice(tmp_path):
    config, summary = tmp_path / "edge.toml", tmp_path / "summary.json"
    config.write_text(
        'device = "cart-1"\n[source]\npath = "unused"\n'
        f'[spool]\npath = "{tmp_path / "spool.db"}"\nkeep_free_bytes = 0\n'
        "[screening]\naudit_rate = 0.05\nonset_s = 0.0\nrepeat_s = 0.3\n"
        "[uplink]\nbackoff_first_s = 0.05\nbackoff_max_s = 0.2\n"
    )
    draw, device_kills, over = random.Random(23), 0, threading.Event()
    cloud = Cloud(tmp_path)

    def kill_the_cloud() -> None:
        while cloud.kills < 2 and not over.wait(draw.uniform(0.3, 1.5)):
            cloud.kill()
            cloud.start()

    killer = threading.Thread(target=kill_the_cloud)
    killer.start()
    try:
        while True:
            command = [sys.executable, PROGRAM, str(FRAMES), "8", config, summary, f"uplink.address={cloud.address}"]
            device = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert device.stdout.readline().startswith("ready")
            try:
                _, errors = device.communicate(timeout=draw.uniform(0.1, 0.5) if device_kills < 3 else 200)
            except subprocess.TimeoutExpired:
                device.kill()
                device.communicate()
                device_kills += 1
                continue
            assert device.returncode == 0, errors
            break
    finally:
        over.set()
        killer.join()
        cloud.close()
    told = json.loads(summary.read_text())
    assert device_kills == 3
    assert cloud.kills >= 1
    assert (told["samples"], told["gaps"], told["pending"]) == (FRAMES, 0, 0)
    edge, ledger = sqlite3.connect(tmp_path / "spool.db"), sqlite3.connect(cloud.ledger)
    ours = edge.execute(
        "SELECT sequence, item, json_extract(verdict, '$.slots.object.option') FROM items WHERE state = 'reviewed' "
        "ORDER BY sequence, item"
    ).fetchall()
    theirs = ledger.execute(
        "SELECT sequence, item, json_extract(slots, '$.object.option') FROM outcomes WHERE state = 'reviewed' "
        "ORDER BY sequence, item"
    ).fetchall()
    assert ours == theirs
    assert len(ours) == told["reviewed"] > 20
    assert edge.execute("SELECT max(pixels_sent) FROM items").fetchone() == (1,)  # it did ask back
    ((samples, gaps, items),) = ledger.execute("SELECT samples, gaps, items FROM reports").fetchall()
    assert (samples, gaps) == (FRAMES, 0)
    assert {state: count for state, count in json.loads(items).items() if count} == {
        state: told[state] for state in ("passed", "reviewed", "deduplicated") if told[state]
    }
    edge.close()
    ledger.close()
