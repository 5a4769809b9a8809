"""The same tests on both databases: a fresh SQLite file, or a fresh database of a real PostgreSQL server."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy

from cloud_node.ledger import open_ledger
from cloud_node.outcome import Outcome, Timings
from fusion.types import ItemId, ItemState, SampleId, SlotAnswer, Verdict
from fusion.wire.convert import evidence_digest

EPOCH = "0" * 16
STARTS_S = 60


class PostgresServer:
    """A server in a folder of its own, on a Unix socket. It refuses root, so root starts it as somebody else."""

    def __init__(self, programs: Path, folder: Path):
        self.programs, self.folder, self.process, self.made = programs, folder, None, 0
        self.somebody = []
        if os.geteuid() == 0:  # by a program: while gRPC runs, Python itself must not fork and change its user
            names = {entry.pw_name for entry in pwd.getpwall()}
            name = "postgres" if "postgres" in names else "nobody"
            self.somebody = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]
            shutil.chown(folder, name)
        self._run("initdb", "--username=fusion", "--auth=trust", "--no-sync", "-D", folder / "data")

    def start(self):
        """Start and wait until it answers; after a kill it first finds its feet again."""
        command = [*self.somebody, self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        until = time.monotonic() + STARTS_S
        while time.monotonic() < until:
            if self.process is None or self.process.poll() is not None:
                with (self.folder / "log").open("a") as log:
                    self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn()).close()
                return
            time.sleep(0.05)
        raise TimeoutError((self.folder / "log").read_text())

    def kill(self):
        """SIGKILL to all of it at once."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # the server's helpers come and go
                process.kill()
        psutil.wait_procs(processes, STARTS_S)
        self.process.wait(STARTS_S)

    def fresh(self):
        """The URL of a new, empty schema, which is made faster than a database and is as good as one."""
        self.made += 1
        with psycopg.connect(self.dsn()) as connection:
            connection.execute(f"CREATE SCHEMA ledger{self.made}")
        return f"postgresql://fusion@/postgres?host={self.folder}&options=-csearch_path%3Dledger{self.made}"

    def dsn(self):
        return f"host={self.folder} user=fusion dbname=postgres"

    def _run(self, program, *arguments):
        subprocess.run(
            [*self.somebody, self.programs / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )


def _programs():
    """Where the newest server's programs are; Debian keeps them off the PATH."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    folders.sort(key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    return folders[-1] if folders else Path(on_path).resolve().parent if on_path else None


@pytest.fixture(scope="session")
def postgres_server():
    programs = _programs()
    if programs is None:
        missing = "NOT TESTED: the ledger in PostgreSQL needs a server; run  apt-get install postgresql"
        warnings.warn(missing, stacklevel=1)
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="fusion-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(programs, Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def postgres_name(postgres_server):
    return postgres_server.fresh()


@dataclass(frozen=True)
class Place:
    """An empty ledger by name, and a way past the ledger to its tables."""

    name: str
    url: str

    def execute(self, statement):
        engine = sqlalchemy.create_engine(self.url)
        with engine.begin() as connection:
            result = connection.execute(sqlalchemy.text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else None
        engine.dispose()
        return rows


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return Place(f"sqlite:{tmp_path / 'ledger.db'}", f"sqlite:///{tmp_path / 'ledger.db'}")
    name = request.getfixturevalue("postgres_name")
    return Place(name, name.replace("postgresql:", "postgresql+psycopg:"))


@pytest.fixture
def ledger(place):
    made = open_ledger(place.name)
    yield made
    made.close()


@pytest.fixture
def reader(ledger):
    made = ledger.reader()
    yield made
    made.close()


def make_item(sequence, number=1, device="cart-1"):
    return ItemId(SampleId(device, EPOCH, sequence), number)


def make_outcome(which, state=ItemState.REVIEWED, option="drum", *, value=0.5, at_ns=2, uncertain=True, **parts):
    """An outcome of the yard task; `parts` replace fields."""
    slots = {"object": SlotAnswer(option, {"drum": 0.75, "cone": 0.25})}
    verdict = Verdict(which, slots, uncertain, ("maps", "tokens"), "fixed:yard", "ab" * 32)
    told = {
        "evidence_sha256": "cd" * 32,
        "verdict": verdict if state is ItemState.REVIEWED else None,
        "task": "yard",
        "profile": "ef" * 32,
        "header": {"value": value, "models": {"fusion": "f1"}},
        "timings": Timings(1, at_ns, 3, 4, 5, 6),
    }
    if blob := parts.get("evidence"):
        told["evidence_sha256"] = evidence_digest(blob)
    return Outcome(which, state, **{**told, **parts})


@pytest.fixture
def item():
    return make_item


@pytest.fixture
def outcome():
    return make_outcome
