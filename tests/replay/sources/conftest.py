"""Small recordings in folders, and places that are not this machine's disk."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from fusion.recording.native import writer
from fusion.recording.native.synthetic import write_synthetic


def write(path, seed=0, frames=3, chunk_bytes=1 << 20):
    """A recording of a few moments; another `seed` is another content of nearly the same size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_BYTES", chunk_bytes)
        write_synthetic(path, frames=frames, seed=seed, width=32, height=32, points=64)
    return path


@pytest.fixture(scope="session")
def made():
    """`write`."""
    return write


@pytest.fixture
def told():
    """A list whose `append` is told what is passed over."""
    return []


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder with ETags, and counts what is asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def end_headers(self):
        tag = self.server.tags.get(self.path)
        if tag:
            self.send_header("ETag", tag)
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    """A web server on the loopback: `folder` is what it serves, `url` where, `asked` what it was asked."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server.folder, server.url = folder, f"http://127.0.0.1:{server.server_port}"
    server.asked, server.tags = [], {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
