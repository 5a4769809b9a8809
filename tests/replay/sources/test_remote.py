"""Recordings behind URLs: listed, copied whole, anew when they change, and never more than the cache may hold."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.util import find_spec

import pytest

from fusion.errors import InputError, UnavailableError
from fusion.task import Task
from replay.sources.cache import Cache
from replay.sources.find import find_recordings
from replay.sources.jobs import jobs_of, open_job
from replay.sources.options import SourceOptions


def put(fs, path, content):
    with fs.open(path, "wb") as file:
        file.write(content)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 1_000_000)


def kept(cache):
    """Bytes of copies in the cache."""
    return sum(path.stat().st_size for path in cache.folder.glob("*/**/*") if path.is_file())


def test_a_remote_recording_is_read_as_if_it_were_here(memory, made, tmp_path):
    path = made(tmp_path / "yard.mcap")
    put(memory, "/fleet/yard.mcap", path.read_bytes())
    options = SourceOptions(cache=str(tmp_path / "cache"))
    (job,) = jobs_of(["memory://fleet/*.mcap"], options=options)
    assert (job.name, job.source) == ("yard", "memory:///fleet/yard.mcap")
    task = Task.load("yard")
    (here,) = jobs_of([str(path)])
    remote, local = open_job(job, task), open_job(here, task)
    assert remote.info().content_sha256 == local.info().content_sha256
    assert len(list(remote.readings())) == len(list(local.readings())) == 9
    assert str(remote.path).startswith(str(tmp_path / "cache"))


def test_folders_and_patterns_there(memory, told):
    for name in ("a/1.mcap", "a/2.bag", "a/notes.txt", "b/bag/metadata.yaml", "b/bag/bag_0.mcap", "c/x.png", "c/y.png"):
        put(memory, f"/root/{name}", b"content " + name.encode())
    found = find_recordings(["memory://root"], told.append)
    assert found == [f"memory:///root/{name}" for name in ("a/1.mcap", "a/2.bag", "b/bag")]
    assert told == ["memory://root: 3 files that are no recordings passed over"]
    assert find_recordings(["memory://root/c"], told.append) == ["memory:///root/c"], (
        "one folder, for a reader of folders"
    )
    assert find_recordings(["memory://root/**/*.mcap"], told.append) == [
        "memory:///root/a/1.mcap", "memory:///root/b/bag/bag_0.mcap",
    ]  # fmt: skip
    assert find_recordings(["memory://root/b/**"], told.append) == ["memory:///root/b/bag"], "the bag, not its files"
    with pytest.raises(InputError, match="nothing there fits this pattern"):
        find_recordings(["memory://root/*.pcap"], told.append)


def test_a_folder_is_copied_with_all_that_is_in_it(memory, cache):
    for name in ("deep/1.bin", "2.bin"):
        put(memory, f"/drive/{name}", name.encode())
    held = cache.hold("memory://drive")
    assert (held.path / "deep/1.bin").read_bytes() == b"deep/1.bin"
    assert (held.path / "2.bin").read_bytes() == b"2.bin"


def test_a_capture_is_copied_with_the_metadata_beside_it(memory, cache):
    for name in ("os.pcap", "os.json", "other.txt"):
        put(memory, f"/drive/{name}", name.encode())
    held = cache.hold("memory://drive/os.pcap")
    assert sorted(path.name for path in held.path.parent.iterdir()) == ["os.json", "os.pcap"]


def test_a_file_in_an_archive(tmp_path, made, cache):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(made(tmp_path / "yard.mcap"), "in/yard.mcap")
    url = f"zip://in/*.mcap::{tmp_path}/all.zip"
    found = find_recordings([url], print)
    assert found == [f"zip://in/yard.mcap::{tmp_path}/all.zip"]
    assert cache.hold(found[0]).path.read_bytes() == (tmp_path / "yard.mcap").read_bytes()


def test_a_file_url_is_a_path(tmp_path, made):
    path = made(tmp_path / "yard.mcap")
    assert find_recordings([f"file://{path}"], print) == [str(path)]


def test_copies_are_made_once_and_anew_when_the_file_changed(web, cache):
    (web.folder / "run.mcap").write_bytes(b"first")
    web.tags["/run.mcap"] = '"1"'
    url = f"{web.url}/run.mcap"
    assert cache.hold(url).path.read_bytes() == b"first"
    web.asked.clear()
    assert cache.hold(url).path.read_bytes() == b"first"
    assert web.asked == [], "an unchanged file is not asked for again"
    (web.folder / "run.mcap").write_bytes(b"other")
    web.tags["/run.mcap"] = '"2"'
    assert cache.hold(url).path.read_bytes() == b"other"


def test_who_holds_a_copy_is_not_given_another(web, cache):
    (web.folder / "run.mcap").write_bytes(b"first")
    held = cache.hold(f"{web.url}/run.mcap")
    (web.folder / "run.mcap").write_bytes(b"changed")
    assert cache.hold(f"{web.url}/run.mcap") is held
    assert held.path.read_bytes() == b"first"


def test_a_damaged_copy_is_made_anew(memory, cache):
    put(memory, "/a.mcap", b"content")
    path = cache.hold("memory://a.mcap").path
    path.write_bytes(b"cont")
    assert cache.hold("memory://a.mcap").path.read_bytes() == b"content"


def test_a_copy_that_was_not_finished_is_made_anew(memory, cache):
    """As a killed run leaves it: the note tells of it, and that it is not complete."""
    put(memory, "/a.mcap", b"content")
    path = cache.hold("memory://a.mcap").path
    (note,) = cache.folder.glob("*.json")
    note.write_text(note.read_text().replace("true", "false"))
    path.write_bytes(b"contenX")
    assert cache.hold("memory://a.mcap").path.read_bytes() == b"content"


def test_the_longest_unused_gives_way(memory, tmp_path):
    cache = Cache(tmp_path / "cache", 250)
    for name in "abc":
        put(memory, f"/{name}.mcap", name.encode() * 100)
    first, second = (cache.hold(f"memory://{name}.mcap").path for name in "ab")
    for age, path in ((50, first), (100, second)):
        note = path.parent.with_suffix(".json")
        os.utime(note, (note.stat().st_mtime - age,) * 2)
    third = cache.hold("memory://c.mcap").path
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert kept(cache) == 200


def test_what_is_in_use_does_not_give_way(memory, tmp_path):
    cache = Cache(tmp_path / "cache", 250)
    for name in "abc":
        put(memory, f"/{name}.mcap", name.encode() * 100)
    held = [cache.hold(f"memory://{name}.mcap") for name in "ab"]
    with pytest.raises(InputError, match=r"memory://c.mcap: no room in the cache of 250 bytes.*--cache-bytes"):
        cache.hold("memory://c.mcap")
    assert all(one.path.exists() for one in held)
    del held
    assert cache.hold("memory://c.mcap").path.read_bytes() == b"c" * 100


def test_nor_what_another_process_uses(tmp_path):
    (tmp_path / "served").mkdir()
    for name in "ab":
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("run.mcap", name * 100)
    urls = [f"zip://run.mcap::{tmp_path}/{name}.zip" for name in "ab"]
    code = (
        "import sys; from pathlib import Path; from replay.sources.cache import Cache\n"
        f"held = Cache(Path({str(tmp_path / 'cache')!r}), 150).hold({urls[0]!r})\n"
        "print('held', flush=True); sys.stdin.readline()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    cache = Cache(tmp_path / "cache", 150)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="no room in the cache"):
            cache.hold(urls[1])
    finally:
        other.communicate("\n", timeout=60)
    assert cache.hold(urls[1]).path.read_text() == "b" * 100


def test_what_is_larger_than_the_cache_is_not_begun(memory, tmp_path):
    put(memory, "/a.mcap", bytes(300))
    with pytest.raises(InputError, match=r"memory://a.mcap: 300 bytes, and the cache may have 250; see --cache-bytes"):
        Cache(tmp_path / "cache", 250).hold("memory://a.mcap")
    assert not (tmp_path / "cache").exists()


class Short(io.BytesIO):
    """A connection that broke off."""

    def read(self, size=-1):
        return super().read(4) if self.tell() == 0 else b""


def test_a_copy_that_is_not_whole_is_refused(memory, cache, monkeypatch):
    put(memory, "/a.mcap", b"content")
    monkeypatch.setattr(type(memory), "_open", lambda *_args, **_options: Short(b"content"))
    with pytest.raises(UnavailableError, match=r"memory://a.mcap: 4 bytes of a.mcap came where 7 are promised"):
        cache.hold("memory://a.mcap")


def test_a_file_that_changes_while_it_is_copied_is_refused(memory, cache, monkeypatch):
    put(memory, "/a.mcap", b"content")
    real = type(memory)._open

    def opened(self, path, mode="rb", **options):
        file = real(self, path, mode, **options)
        put_again = io.BytesIO(file.read())
        monkeypatch.undo()
        put(memory, "/a.mcap", b"CONTENT")
        return put_again

    monkeypatch.setattr(type(memory), "_open", opened)
    with pytest.raises(UnavailableError, match="it changed while it was copied; try again"):
        cache.hold("memory://a.mcap")


def test_equal_content_is_known_only_by_digests(tmp_path, told):
    for name, content in (("a", "same"), ("b", "same"), ("c", "else")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("run.mcap", content)
    urls = [f"zip://run.mcap::{tmp_path}/{name}.zip" for name in "abc"]
    assert find_recordings(urls, told.append) == [urls[0], urls[2]]
    assert told == [f"{urls[1]}: holds the same as {urls[0]}; run once"]


@pytest.mark.parametrize(
    ("url", "kind", "match"),
    [
        (
            "s3://bucket/a.mcap",
            InputError,
            r"s3:// needs the package s3fs, which is missing; install it: pip install s3fs",
        ),
        ("gs://bucket/*.mcap", InputError, r"gs:// needs the package gcsfs"),
        ("nonsense://a.mcap", InputError, "not a URL that can be read .*nonsense"),
        ("memory://nowhere.mcap", InputError, "no such file or folder there"),
        ("zip://a.mcap::memory://nowhere.zip", InputError, "no such file or folder there"),
        ("http://127.0.0.1:9/a.mcap", UnavailableError, "cannot be reached"),
    ],
)
def test_what_cannot_be_had_is_one_line_with_the_url(memory, told, tmp_path, url, kind, match):
    package = {"s3": "s3fs", "gs": "gcsfs"}.get(url.partition(":")[0])
    if package and find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(kind, match=match) as caught:
        Cache(tmp_path, 1000).hold(find_recordings([url], told.append)[0])
    assert str(caught.value).startswith(f"{url}: ")
    assert "\n" not in str(caught.value)


def test_a_page_that_is_not_there(web, cache):
    with pytest.raises(InputError, match=r"/none.mcap: no such file or folder there"):
        cache.hold(f"{web.url}/none.mcap")


def test_a_web_folder(web, told):
    for name in ("a.mcap", "b.mcap", "c.txt"):
        (web.folder / name).write_bytes(name.encode())
    assert find_recordings([f"{web.url}/"], told.append) == [f"{web.url}/a.mcap", f"{web.url}/b.mcap"]
    assert find_recordings([f"{web.url}/*.mcap"], told.append) == [f"{web.url}/a.mcap", f"{web.url}/b.mcap"]


def test_a_cache_that_cannot_be_written_is_one_line(memory, tmp_path):
    (tmp_path / "file").write_text("in the way")
    put(memory, "/a.mcap", b"content")
    with pytest.raises(InputError, match="the cache cannot be written"):
        Cache(tmp_path / "file/cache", 1000).hold("memory://a.mcap")


def test_names_that_lead_out_of_the_cache_are_refused(tmp_path, cache):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/../../../evil.bin", b"evil")
        archive.writestr("in/good.bin", b"good")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with suppress(InputError):
        assert cache.folder in cache.hold(f"zip://in::{path}").path.parents
    assert not (tmp_path / "evil.bin").exists()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
