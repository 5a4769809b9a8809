"""TLS and mutual TLS with throwaway certificates."""

import asyncio
import shutil
import subprocess

import pytest

from fusion.errors import ProtocolError, UnavailableError
from fusion.types import Verdict
from fusion.wire.channel import ClientTls, open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Submission

if shutil.which("openssl") is None:
    pytest.skip("the openssl program is not there to make certificates", allow_module_level=True)


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder, name):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-keyout", key, "-out", certificate, "-subj", f"/CN={name}",
    )  # fmt: skip
    return certificate, key


def signed(folder, name, by, san):
    key, certificate, request, extension = (folder / f"{name}.{end}" for end in ("key", "pem", "csr", "ext"))
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", key, "-out", request, "-subj", f"/CN={name}",
    )  # fmt: skip
    extension.write_text(f"subjectAltName={san}\n")
    openssl(
        "x509", "-req", "-in", request, "-CA", by[0], "-CAkey", by[1], "-CAcreateserial", "-days", "2",
        "-out", certificate, "-extfile", extension,
    )  # fmt: skip
    return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = authority(folder, "ours"), authority(folder, "theirs")
    return {
        "ours": ours,
        "theirs": theirs,
        "server": signed(folder, "server", ours, "IP:127.0.0.1"),
        "cart-1": signed(folder, "cart-1", ours, "DNS:cart-1"),
        "stranger": signed(folder, "stranger", theirs, "DNS:cart-1"),
    }


def tls_settings(certificates, *, mutual):
    certificate, key = certificates["server"]
    overrides = [f"tls.certificate={certificate}", f"tls.key={key}"]
    return [*overrides, f"tls.client_ca={certificates['ours'][0]}"] if mutual else overrides


def review(serving, evidence, certificates, *, mutual, tls):
    async def run():
        settings = tls_settings(certificates, mutual=mutual)
        async with serving(*settings) as (service, _), open_channel(f"127.0.0.1:{service.port}", tls) as channel:
            return await ReviewClient(channel).review(Submission.of(evidence), timeout_s=5)

    return asyncio.run(run())


def test_tls_carries_verdicts(serving, make_evidence, certificates):
    tls = ClientTls(authority=certificates["ours"][0])
    assert isinstance(review(serving, make_evidence(), certificates, mutual=False, tls=tls), Verdict)


@pytest.mark.parametrize("tls", [None, "theirs"])
def test_a_device_that_does_not_trust_the_service_sends_nothing(serving, make_evidence, certificates, tls):
    wrong = ClientTls(authority=certificates[tls][0]) if tls else None
    with pytest.raises(UnavailableError):
        review(serving, make_evidence(), certificates, mutual=False, tls=wrong)


def test_mutual_tls_proves_who_a_device_is(serving, make_evidence, certificates):
    certificate, key = certificates["cart-1"]
    tls = ClientTls(authority=certificates["ours"][0], certificate=certificate, key=key)
    assert isinstance(review(serving, make_evidence(), certificates, mutual=True, tls=tls), Verdict)
    with pytest.raises(ProtocolError, match="cart-2"):
        review(serving, make_evidence(device="cart-2"), certificates, mutual=True, tls=tls)


@pytest.mark.parametrize("who", [None, "stranger"])
def test_mutual_tls_keeps_strangers_out(serving, make_evidence, certificates, who):
    certificate, key = certificates[who] if who else (None, None)
    tls = ClientTls(authority=certificates["ours"][0], certificate=certificate, key=key)
    with pytest.raises(UnavailableError):
        review(serving, make_evidence(), certificates, mutual=True, tls=tls)


def test_a_stream_under_another_devices_name_is_refused(serving, hello, certificates):
    certificate, key = certificates["cart-1"]
    tls = ClientTls(authority=certificates["ours"][0], certificate=certificate, key=key)

    async def run():
        settings = tls_settings(certificates, mutual=True)
        async with serving(*settings) as (service, _), open_channel(f"127.0.0.1:{service.port}", tls) as channel:
            stream = ReviewClient(channel).exchange()
            await stream.send(hello("cart-2"))
            with pytest.raises(ProtocolError, match="certificate of cart-1"):
                await stream.receive()

    asyncio.run(run())
