"""`cloud-node doctor` as a process: what it finds, what it suggests, how it ends."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cloud_node.config import CloudSettings
from cloud_node.doctor.checks import check_memory, check_tls
from cloud_node.doctor.command import choose
from cloud_node.lanes.warmup import TimedBatch
from cloud_node.ledger import open_ledger, open_reader
from fusion.checks import State
from fusion.wire.channel import ServerTls

RUN = [sys.executable, "-c", "import sys; from cloud_node.cli import main; sys.exit(main())", "doctor"]


def doctor(tmp_path, *overrides):
    """Exit code and report."""
    sets = ["listen=127.0.0.1:0", 'reviewers=["fixed:yard"]', f"ledger={tmp_path / 'ledger.db'}", *overrides]
    done = subprocess.run(
        [*RUN, *(part for one in sets for part in ("--set", one))],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_fit_machine_gets_batches_that_can_be_pasted(tmp_path):
    code, told = doctor(tmp_path)
    assert code == 0, told
    for words in ("ledger", "will be made", "a durable commit", "fixed:yard: answers", "0 fail"):
        assert words in told
    assert len(re.findall(r"^ +\d+ +\d+ +[\d.]+ +\d+  \*$", told, re.MULTILINE)) == 1
    settings = CloudSettings.model_validate(tomllib.loads(re.search(r"\[batch\]\nitems.*\ntokens.*", told)[0]))
    assert 1 <= settings.batch.items <= 64
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_a_ledger_in_a_folder_that_is_not_there_yet_is_fit(tmp_path):
    code, told = doctor(tmp_path, f"ledger={tmp_path / 'new' / 'folder' / 'ledger.db'}")
    assert code == 0, told
    for words in ("will be made", "MiB free", "a durable commit", "0 fail"):
        assert words in told
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_what_is_wrong_is_named_and_the_rest_still_checked(tmp_path):
    (tmp_path / "ledger.db").write_text("no database, and long enough to be looked at")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, told = doctor(tmp_path, f"metrics=127.0.0.1:{port}", 'reviewers=["mini:/no/where", "fixed:yard"]')
    assert code == 1
    failed = [line.split()[1] for line in told.splitlines() if line.startswith("fail")]
    assert failed == ["metrics", "ledger", "reviewer"]
    assert "fixed:yard: answers" in told


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program makes the certificates")
@pytest.mark.parametrize(("days", "state", "words"), [(10, State.WARN, "9|10"), (400, State.OK, "399|400")])
def test_a_certificate_s_last_day_is_told(tmp_path, days, state, words):
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", "/CN=a",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    check = check_tls(ServerTls(certificate=certificate, key=key))
    assert check.state is state, check
    assert re.search(rf"expires in ({words}) days", check.found)


def test_a_certificate_that_is_not_there_fails(tmp_path):
    check = check_tls(ServerTls(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem"))
    assert check.state is State.FAIL
    assert "c.pem" in check.found


def test_scarce_memory_is_told(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 900000 kB\nMemAvailable: 102400 kB\n")
    assert check_memory(tmp_path / "meminfo").state is State.WARN
    assert check_memory(tmp_path / "none").state is State.WARN


def test_the_smallest_batch_near_the_best_rate_is_chosen():
    timed = [TimedBatch(1, 10, 10), TimedBatch(8, 80, 20), TimedBatch(16, 160, 38), TimedBatch(32, 320, 79)]
    assert choose(timed).items == 8


def test_a_ledger_of_an_earlier_version_is_told_and_left_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.executescript((Path(__file__).parent / "ledger" / "schema1.sql").read_text())
    connection.close()
    before = (tmp_path / "ledger.db").read_bytes()
    code, told = doctor(tmp_path)
    assert code == 0, told
    assert "of schema 1, will be brought up to date" in told
    assert (tmp_path / "ledger.db").read_bytes() == before


def test_a_ledger_with_outcomes_is_read_and_left_as_it_is(tmp_path):
    open_ledger(str(tmp_path / "ledger.db")).close()
    code, told = doctor(tmp_path)
    assert code == 0, told
    assert "can be read, 0 outcomes" in told
    assert open_reader(str(tmp_path / "ledger.db")).counts() == {}
