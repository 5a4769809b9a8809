"""The options are ones the installed gRPC binary reads, and bad TLS files are named."""

import mmap
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc

from fusion.errors import ConfigError
from fusion.wire.channel import (
    ClientTls,
    ServerTls,
    channel_credentials,
    client_options,
    server_credentials,
    server_options,
)


def test_every_option_exists_in_the_binary():
    with Path(cygrpc.__file__).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        for name, _ in {*server_options(), *client_options("name")}:
            assert binary.find(name.encode() + b"\0") >= 0, f"{name} is not an option of grpc {grpc.__version__}"


def test_a_missing_tls_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.pem"):
        channel_credentials(ClientTls(authority=tmp_path / "gone.pem"))


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"wrong\.pem"):
        channel_credentials(ClientTls(authority=wrong))
    with pytest.raises(ConfigError, match=r"wrong\.pem"):
        server_credentials(ServerTls(certificate=wrong, key=wrong))


def test_a_certificate_without_its_key_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="go together"):
        channel_credentials(ClientTls(authority=tmp_path / "a", certificate=tmp_path / "b"))
