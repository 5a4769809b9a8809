"""The console beside a real service: its port, its numbers, its corrections, its end."""

import asyncio
import contextlib
import json
import re
import shutil
import ssl
import subprocess
import threading

import httpx
import pytest

from cloud_node.cli import main
from cloud_node.console import connection
from cloud_node.console import serving as serving_room
from cloud_node.console.alone import backing_of
from cloud_node.fleet import Fleet
from cloud_node.ledger import AwayError, Correction, open_reader
from cloud_node.overview import Overview
from cloud_node.server import CloudService
from fusion.errors import ConfigError, SpoolError, UnavailableError
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemState, LedgerCounts
from fusion.wire.messages import Goodbye, LedgerReport, Submission

from .conftest import BEGAN_NS, PASSWORD, fields_of, item, token_of

ON = "console.listen=127.0.0.1:0"


def address(service):
    return f"http://127.0.0.1:{service.console_port}"


@pytest.fixture
def browse():
    """A browser for a service in this loop, which must go on meanwhile."""

    async def get(service, path, **more):
        async with httpx.AsyncClient(base_url=address(service), timeout=30) as client:
            return await client.get(path, **more)

    return get


def test_no_console_by_default(serving):
    async def run():
        async with serving() as (service, _):
            assert service.console_port == 0
            assert not any(thread.name == "console" for thread in threading.enumerate())

    asyncio.run(run())


def test_numbers_follow_reviews(serving, connect, exchange_all, make_evidence, browse):
    async def numbers(service):
        async with (
            httpx.AsyncClient(base_url=address(service), timeout=30) as client,
            client.stream("GET", "/live") as stream,
        ):
            line = await anext(stream.aiter_lines())
            return json.loads(line.removeprefix("data: "))

    async def run():
        async with serving(ON) as (service, client):
            before = await numbers(service)
            assert (before["end_reviewed"], before["connected"], before["p50"]) == ("0", "0 of 0", "\N{EN DASH}")
            stream, _ = await connect(client)
            await exchange_all(stream, [make_evidence(n) for n in range(1, 41)])
            after = await numbers(service)
            assert (after["end_reviewed"], after["connected"], after["open_items"]) == ("40", "1 of 1", "0")
            assert after["p50"] != "\N{EN DASH}"
            assert after["trouble"] == "all is well"
            await service.drain()
            assert (await numbers(service))["trouble"] == "draining"

    asyncio.run(run())


def test_many_live_pages_share_a_snapshot_and_ask_for_no_device(serving, connect, monkeypatch):
    pages, rounds, taken, listed = 8, 3, [], []
    snapshot, rows = Overview.snapshot, Fleet.rows
    monkeypatch.setattr(Overview, "snapshot", lambda self: taken.append(1) or snapshot(self))
    monkeypatch.setattr(Fleet, "rows", lambda self: listed.append(1) or rows(self))

    async def watch(service):
        async with (
            httpx.AsyncClient(base_url=address(service), timeout=30) as client,
            client.stream("GET", "/live") as stream,
        ):
            lines = (line async for line in stream.aiter_lines() if line)
            return [json.loads((await anext(lines)).removeprefix("data: ")) for _ in range(rounds)]

    async def run():
        async with serving(ON) as (service, client):
            await connect(client)
            began = asyncio.get_running_loop().time()
            told = await asyncio.gather(*(watch(service) for _ in range(pages)))
            return told, asyncio.get_running_loop().time() - began

    told, seconds = asyncio.run(run())
    assert {values["connected"] for page in told for values in page} == {"1 of 1"}
    assert listed == []
    assert len(taken) <= pages + seconds + 1  # the first of each page, then one a second


def test_items_that_wait_are_shown_where_they_are(serving, held, connect, make_evidence, browse):
    async def run():
        async with serving(ON, reviewer=held) as (service, client):
            stream, _ = await connect(client)
            for sequence in (1, 2, 3):
                await stream.send(Submission.of(make_evidence(sequence)))
            await held.begins()
            page = (await browse(service, "/devices")).text
            assert re.search(r'data-name="Without an answer" class="num">[1-3]<', page)
            held.gate.set()
            for _ in range(3):
                await stream.receive()

    asyncio.run(run())


def test_devices_come_go_and_tell(serving, connect, exchange_all, make_evidence, browse):
    async def run():
        async with serving(ON) as (service, client):
            stream, _ = await connect(client, "cart-2")
            counts = LedgerCounts(70, 1, {ItemState.PASSED: 60, ItemState.PENDING: 4})
            await stream.send(LedgerReport(counts))
            await exchange_all(stream, [make_evidence(1, device="cart-2")])
            page = (await browse(service, "/devices")).text
            assert "cart-2" in page
            assert "connected</span>" in page
            assert "70 samples, 64 items, 4 pending" in page
            assert page.count(">not told</td>") == 5
            await stream.send(Goodbye())
            assert await stream.receive() is None
            page = (await browse(service, "/devices")).text
            assert "away</span> (goodbye)" in page

    asyncio.run(run())


def test_a_correction_goes_through_the_services_own_ledger(
    serving, connect, exchange_all, make_evidence, make_settings
):
    path = "/item/cart-1/0123456789abcdef/1/1"

    def correct(base):
        with httpx.Client(base_url=base, timeout=30) as client:
            fields = fields_of(client, path)
            return client.post(path, data={**fields, "answer.object": "cone", "action": "save"})

    async def run():
        async with serving(ON) as (service, client):
            stream, _ = await connect(client)
            evidence = make_evidence(1)
            await exchange_all(stream, [evidence])
            assert (await asyncio.to_thread(correct, address(service))).status_code == 303
        reader = open_reader(service.settings.ledger)
        (said,) = reader.corrections(evidence.item)
        reader.close()
        assert (said.author, said.answers["object"]) == ("local", "cone")

    asyncio.run(run())


def test_a_port_in_use_is_told(serving, make_settings, yard):
    async def run():
        async with serving(ON) as (service, _):
            other = make_settings(f"console.listen=127.0.0.1:{service.console_port}")
            with pytest.raises(UnavailableError, match="cannot serve the console"):
                async with CloudService(other, reviewers=[FixedReviewer(yard)]).running():
                    pass

    asyncio.run(run())


WHOLE = b"GET /search HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\n"
BODY = b"POST /logout HTTP/1.1\r\nHost: localhost\r\n" + FORM


@pytest.fixture
def hasty(monkeypatch):
    """Half a second for a request."""
    monkeypatch.setattr(connection, "REQUEST_S", 0.5)


@pytest.mark.parametrize("began", [b"", b"GET /sea", WHOLE[:-2], BODY + b"token=", WHOLE + b"GET /sea"])
def test_a_request_that_does_not_come_is_not_waited_for(serving, hasty, caplog, began):
    async def run():
        async with serving(ON) as (service, _), asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.console_port)
            writer.write(began)
            with contextlib.suppress(ConnectionError):
                while await reader.read(65_536):
                    pass
            writer.close()

    asyncio.run(run())
    assert not [record for record in caplog.records if record.exc_info]


def test_a_byte_now_and_then_is_no_request(serving, hasty):
    async def run():
        async with serving(ON) as (service, _), asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.console_port)
            ended = asyncio.create_task(reader.read())
            while not ended.done():
                writer.write(b"G")
                await asyncio.wait([ended], timeout=0.1)
            with contextlib.suppress(ConnectionError):
                assert await ended == b""
            writer.close()

    asyncio.run(run())


def test_silent_connections_shut_nobody_out(serving, hasty, browse, monkeypatch):
    monkeypatch.setattr(serving_room, "CONNECTIONS", 8)

    async def run():
        async with serving(ON) as (service, _), asyncio.timeout(30):
            silent = [await asyncio.open_connection("127.0.0.1", service.console_port) for _ in range(8)]
            while (await browse(service, "/search")).status_code != 200:
                await asyncio.sleep(0.05)
            for _, writer in silent:
                writer.close()

    asyncio.run(run())


def test_an_address_has_its_share_of_connections(serving, browse, monkeypatch):
    monkeypatch.setattr(connection, "OF_ONE_ADDRESS", 3)

    async def run():
        async with serving(ON) as (service, _), asyncio.timeout(30):
            kept = [await asyncio.open_connection("127.0.0.1", service.console_port) for _ in range(3)]
            reader, writer = await asyncio.open_connection("127.0.0.1", service.console_port)
            assert await reader.read() == b""
            for _, one in [*kept, (reader, writer)]:
                one.close()
            await asyncio.sleep(0.1)
            assert (await browse(service, "/search")).status_code == 200

    asyncio.run(run())


def test_requests_that_are_whole_are_served_as_long_as_they_take(serving, hasty):
    async def run():
        async with (
            serving(ON) as (service, _),
            httpx.AsyncClient(base_url=address(service), timeout=30) as client,
            client.stream("GET", "/live") as stream,
        ):
            lines = (line async for line in stream.aiter_lines() if line)
            for _ in range(3):
                assert "trouble" in json.loads((await anext(lines)).removeprefix("data: "))
            for _ in range(3):
                assert (await client.get("/search")).status_code == 200
                await asyncio.sleep(0.7)

    asyncio.run(run())


def test_it_ends_with_the_service_though_somebody_watches(serving):
    async def run():
        async with serving(ON) as (service, _):
            client = httpx.AsyncClient(base_url=address(service), timeout=30)
            request = client.build_request("GET", "/live")
            answer = await client.send(request, stream=True)
            await anext(answer.aiter_lines())
        assert not any(thread.name == "console" for thread in threading.enumerate())
        await client.aclose()
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient() as late:
                await late.get(address(service))

    asyncio.run(run())


def test_missing_users_and_certificates_are_told_at_start(tmp_path, make_settings, yard):
    async def start(*overrides):
        async with CloudService(make_settings(ON, *overrides), reviewers=[FixedReviewer(yard)]).running():
            pass

    with pytest.raises(ConfigError, match="cloud-node user"):
        asyncio.run(start(f"console.users={tmp_path / 'none.json'}"))
    with pytest.raises(ConfigError, match=r"a\.pem"):
        asyncio.run(start("console.tls.certificate=a.pem", "console.tls.key=b.pem"))


def test_check_reads_the_console_too(tmp_path, capsys):
    sets = ['reviewers=["fixed:yard"]', f"ledger={tmp_path / 'l.db'}", "console.listen=127.0.0.1:0"]
    arguments = [part for one in sets for part in ("--set", one)]
    assert main(["check", *arguments]) == 0
    assert "console: 127.0.0.1:0, whoever is on this machine" in capsys.readouterr().out
    assert main(["check", *arguments, "--set", f"console.users={tmp_path / 'none.json'}"]) == 2


def test_a_ledger_is_corrected_without_the_service_but_not_beside_it(tmp_path, ledger):
    name = str(tmp_path / "ledger.db")
    correction = Correction(item(1), "ann", BEGAN_NS, {"object": "cone"})

    async def correct():
        with backing_of(name) as backing:
            await backing.correct(correction)
            return backing.reader.corrections(item(1))

    with pytest.raises((SpoolError, AwayError)):
        asyncio.run(correct())
    ledger.close()
    assert asyncio.run(correct()) == [correction]
    with pytest.raises(SpoolError), backing_of(str(tmp_path / "none.db")):
        pass


def test_without_the_service_the_bundled_tasks_and_trunks_are_known(tmp_path, ledger, backing):
    with backing_of(str(tmp_path / "ledger.db")) as alone:
        assert {"yard", "pcb"} <= set(alone.tasks)
        assert alone.watched is None
        assert set(alone.profiles) >= set(backing.profiles)


@pytest.fixture
def encrypted(tmp_path, users):
    """The settings of a console with users over TLS, and its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program makes the certificate")
    certificate, key = tmp_path / "a.pem", tmp_path / "a.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return [f"console.users={users}", f"console.tls.certificate={certificate}", f"console.tls.key={key}"], certificate


def test_over_tls_one_logs_in_and_the_cookie_stays_encrypted(serving, encrypted):
    sets, certificate = encrypted

    def log_in(port):
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted, timeout=30) as client:
            fields = {"token": token_of(client, "/login"), "name": "ann", "password": PASSWORD}
            answer = client.post("/login", data=fields)
            return answer, client.get("/triage").status_code

    async def run():
        async with serving(ON, *sets) as (service, _):
            answer, status = await asyncio.to_thread(log_in, service.console_port)
            assert (answer.status_code, status) == (303, 200)
            assert answer.headers["set-cookie"].startswith("__Host-")
            assert "Secure" in answer.headers["set-cookie"]

    asyncio.run(run())


def test_a_handshake_that_does_not_come_ends(serving, encrypted, monkeypatch):
    monkeypatch.setattr(serving_room, "HANDSHAKE_S", 0.3)
    sets, _ = encrypted

    async def run():
        async with serving(ON, *sets) as (service, _), asyncio.timeout(20):
            for said in (b"", b"\x16\x03\x01\x02"):
                reader, writer = await asyncio.open_connection("127.0.0.1", service.console_port)
                writer.write(said)
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()

    asyncio.run(run())
