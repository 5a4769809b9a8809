"""What the service needs besides its reviewers, each as a line: ok, warn or fail, with what to do."""

from __future__ import annotations

import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from cloud_node.config import CloudSettings
from cloud_node.ledger import OlderError, open_ledger, open_reader, without_password
from cloud_node.outcome import Outcome
from fusion.checks import Check, State
from fusion.errors import FusionError
from fusion.types import ItemId, ItemState, SampleId
from fusion.wire.channel import ServerTls, server_credentials

MIB = 1024 * 1024
_SOON_DAYS = 30
_LEAST_FREE = 1024 * MIB
_SLOW_COMMIT_S = 0.05
_COMMITS = 20


def all_checks(settings: CloudSettings) -> Iterator[Check]:
    """Everything but the reviewers, cheapest first."""
    yield Check(State.OK, "python", ".".join(map(str, sys.version_info[:3])))
    yield check_memory()
    for name, address in (
        ("listen", settings.listen),
        ("metrics", settings.metrics),
        ("console", settings.console.listen),
    ):
        if address:
            yield check_port(name, address)
    yield check_tls(settings.tls)
    yield from check_ledger(settings.ledger)


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Check:
    """Whether a gibibyte is free."""
    lines = meminfo.read_text(encoding="utf-8").splitlines() if meminfo.exists() else []
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if free is None:
        return Check(State.WARN, "memory", "the system does not tell", "see that 1 GiB is free")
    scarce = free < _LEAST_FREE
    advice = "free 1 GiB for the service" if scarce else ""
    return Check(State.WARN if scarce else State.OK, "memory", f"{free / MIB:.0f} MiB free", advice)


def check_port(name: str, address: str) -> Check:
    """Whether HOST:PORT can be taken."""
    host, _, port = address.rpartition(":")
    try:
        place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(place[0], socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place[4])
    except (OSError, OverflowError, UnicodeError) as error:
        return Check(State.FAIL, name, f"{address}: {error}", "stop what has it, or set another port")
    return Check(State.OK, name, f"{address} is free")


def check_tls(tls: ServerTls | None) -> Check:
    """Whether the certificate and its key can be used, and for how long."""
    if tls is None:
        return Check(State.WARN, "tls", "plain text", "set [tls] unless the network is trusted")
    try:
        server_credentials(tls)
        days = (ssl.cert_time_to_seconds(_expiry(tls)) - time.time()) / 86_400
    except ssl.SSLError as error:
        return Check(State.FAIL, "tls", f"{tls.certificate}: {error}", "renew the certificate")
    except FusionError as error:
        return Check(State.FAIL, "tls", str(error), "mend [tls]")
    soon = days < _SOON_DAYS
    told = f"{tls.certificate}: expires in {days:.0f} days"
    return Check(State.WARN if soon else State.OK, "tls", told, "renew it soon" if soon else "")


def _expiry(tls: ServerTls) -> str:
    """`notAfter` of the certificate, from a handshake in memory that trusts nothing but it; expired, it fails."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(tls.certificate, tls.key)
    client.check_hostname = False
    client.load_verify_locations(tls.certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    told = ends[0].getpeercert() or {}
    return str(told["notAfter"])


def check_ledger(name: str) -> Iterator[Check]:
    """Whether the ledger can be read, how much is free, and how long one durable commit takes."""
    shown = without_password(name)
    path = Path(name.removeprefix("sqlite:"))
    is_file = ":" not in name or name.startswith("sqlite:")
    if is_file and not path.exists():
        yield Check(State.OK, "ledger", f"{shown}: will be made")
    else:
        try:
            reader = open_reader(name)
            counts = reader.counts()
            reader.close()
        except OlderError as older:
            yield Check(State.OK, "ledger", f"{shown}: of schema {older.version}, will be brought up to date")
        except FusionError as error:
            yield Check(State.FAIL, "ledger", str(error), "mend it, or set ledger")
            return
        else:
            yield Check(State.OK, "ledger", f"{shown}: can be read, {sum(counts.values())} outcomes")
    if is_file:
        folder = path.resolve().parent
        yield from _check_disk(next(one for one in (folder, *folder.parents) if one.exists()))


def _check_disk(folder: Path) -> Iterator[Check]:
    """Free bytes, and the commits of a ledger that is made for this in `folder` and removed."""
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=folder) as place:
            seconds = _commit_seconds(str(Path(place) / "ledger.db"))
    except (OSError, FusionError) as error:
        yield Check(State.FAIL, "disk", f"{folder}: {error}", "set ledger to a folder that can be written")
        return
    scarce, slow = free < _LEAST_FREE, seconds > _SLOW_COMMIT_S
    told, advice = f"{free / MIB:.0f} MiB free", "free 1 GiB"
    yield Check(State.WARN if scarce else State.OK, "disk", told, advice if scarce else "")
    told = f"{1e3 * seconds:.1f} ms a durable commit (median of {_COMMITS})"
    advice = "verdicts wait for it; use a faster disk"
    yield Check(State.WARN if slow else State.OK, "commit", told, advice if slow else "")


def _commit_seconds(name: str) -> float:
    ledger = open_ledger(name)
    taken = []
    for sequence in range(1, _COMMITS + 1):
        item = ItemId(SampleId("doctor", "0" * 16, sequence), 1)
        began = time.perf_counter()
        ledger.store([Outcome(item, ItemState.QUARANTINED, "0" * 64, reason="a trial")])
        taken.append(time.perf_counter() - began)
    ledger.close()
    return median(taken)
