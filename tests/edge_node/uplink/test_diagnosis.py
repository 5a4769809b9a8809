"""Why a service cannot be reached: a cable, a certificate, or a name."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from edge_node.config import UplinkSettings
from edge_node.spool import Spool, SpoolWorker
from edge_node.uplink import Identity, Uplink
from edge_node.uplink.diagnosis import LinkState, diagnose
from fusion.clock import SystemClock
from fusion.wire.channel import ClientTls, ServerTls, bind, server_options

if shutil.which("openssl") is None:
    pytest.skip("the openssl program is not there to make certificates", allow_module_level=True)


def openssl(*arguments) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Authorities `ca` and `other`; certificates `server` and `device` signed by ca, `stranger` by other."""
    folder = tmp_path_factory.mktemp("keys")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for ca in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            *curve,
            "-days",
            2,
            "-subj",
            f"/CN={ca}",
            "-keyout",
            folder / f"{ca}.key",
            "-out",
            folder / f"{ca}.pem",
        )
    for name, ca in (("server", "ca"), ("device", "ca"), ("stranger", "other")):
        openssl(
            "req", *curve, "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr"
        )
        (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl(
            "x509", "-req", "-days", 2, "-in", folder / f"{name}.csr", "-CA", folder / f"{ca}.pem", "-CAkey",
            folder / f"{ca}.key", "-CAcreateserial", "-extfile", folder / "ext", "-out", folder / f"{name}.pem",
        )  # fmt: skip
    return folder


@asynccontextmanager
async def service(tls: ServerTls | None):
    server = grpc.aio.server(options=server_options())
    port = bind(server, "127.0.0.1:0", tls)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def found(served: ServerTls | None, ours: ClientTls | None):
    async def scenario():
        async with service(served) as address:
            return await diagnose(address, ours, "the transport's own words")

    return asyncio.run(scenario())


def server_tls(keys, *, mutual: bool = False) -> ServerTls:
    return ServerTls(
        certificate=keys / "server.pem", key=keys / "server.key", client_ca=keys / "ca.pem" if mutual else None
    )


def client_tls(keys, name: str = "", authority: str = "ca", server_name: str = "") -> ClientTls:
    pair = {"certificate": keys / f"{name}.pem", "key": keys / f"{name}.key"} if name else {}
    return ClientTls(authority=keys / f"{authority}.pem", server_name=server_name, **pair)


def test_a_sound_connection_leaves_the_transports_words(keys):
    for served, ours in (
        (None, None),
        (server_tls(keys), client_tls(keys)),
        (server_tls(keys, mutual=True), client_tls(keys, "device")),
    ):
        told = found(served, ours)
        assert (told.state, told.reason) == (LinkState.OFFLINE, "the transport's own words")


def test_another_authority_is_a_matter_of_identity(keys):
    told = found(server_tls(keys), client_tls(keys, authority="other"))
    assert told.state is LinkState.IDENTITY
    assert "the service's certificate is not accepted" in told.reason


def test_another_name_is_a_matter_of_identity(keys):
    told = found(server_tls(keys), client_tls(keys, server_name="review.example"))
    assert told.state is LinkState.IDENTITY
    assert "review.example" in told.reason


@pytest.mark.parametrize("name", ["", "stranger"])
def test_a_missing_or_foreign_device_certificate_is_a_matter_of_identity(keys, name):
    assert found(server_tls(keys, mutual=True), client_tls(keys, name)).state is LinkState.IDENTITY


def test_tls_on_one_side_only_is_a_matter_of_identity(keys):
    told = found(server_tls(keys), None)
    assert told.state is LinkState.IDENTITY
    assert "uplink.tls is not set" in told.reason
    assert found(None, client_tls(keys)).state is LinkState.IDENTITY


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("127.0.0.1:1", "connection refused"),
        ("no-such-host.invalid:80", ""),
        ("nonsense", "not of the form host:port"),
        ("127.0.0.1:99999", "is no address: "),
        ("a..b:7447", "is no address: "),
        (f"{'x' * 64}.local:7447", "is no address: "),
    ],
)
def test_nothing_there_is_offline(address, named):
    told = asyncio.run(diagnose(address, None, "unused"))
    assert told.state is LinkState.OFFLINE
    assert named in told.reason


def test_the_uplink_tells_a_matter_of_identity_from_an_outage(keys, tmp_path, caplog):
    spool = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    worker = SpoolWorker(spool)
    worker.start()

    async def scenario() -> Uplink:
        async with service(server_tls(keys, mutual=True)) as address:
            settings = UplinkSettings(address=address, tls=client_tls(keys, "stranger"), connect_timeout_s=2.0)
            uplink = Uplink(settings, Identity("cart-1", spool.epoch, "yard", {}, "p"), worker, SystemClock())
            running = asyncio.create_task(uplink.run())
            async with asyncio.timeout(20):
                while not uplink.counts.broken or uplink.state is LinkState.STARTING:
                    await asyncio.sleep(0.01)
            uplink.leave()
            await running
            return uplink

    uplink = asyncio.run(scenario())
    worker.close()
    assert uplink.state is LinkState.IDENTITY
    (line,) = [record.message for record in caplog.records if record.name.startswith("edge_node")]
    assert "do not accept each other" in line
