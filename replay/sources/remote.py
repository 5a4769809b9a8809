"""Recordings that are not on this machine's disk: what a URL names, listed through fsspec and its drivers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fusion.errors import FusionError, InputError, UnavailableError

SUFFIXES = frozenset(
    (".mcap", ".bag", ".db3", ".pcap", ".pcapng", ".mp4", ".mkv", ".avi", ".mov", ".webm", ".wav", ".flac", ".ogg")
)
"""Files that are recordings by themselves, by their names' end."""
_CAPTURES = (".pcap", ".pcapng")
"""Recordings that are read with the `.json` files beside them."""
_BAG = "metadata.yaml"
_STAMPS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "CRC", "LastModified", "last_modified", "updated", "mtime",
           "date_time", "created")  # fmt: skip
"""What file systems call the mark that changes with a file, best first."""
_DIGESTS = ("md5Hash", "md5", "crc32c", "CRC")
"""Those that follow from the content alone; so does the ETag of S3, but not a web server's."""
_NAME_BYTES, _KEPT_BYTES = 255, 200
"""What a file's name here may have, and how much is left of one that has more."""


def is_url(source: str) -> bool:
    """Whether a source is for fsspec to read: it has a protocol, or a chain of them."""
    return "://" in source or "::" in source


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a remote recording: its place in a copy of the recording, in the file system, and what is told of it.

    `stamp` changes with the file; `digest` is the same for the same content, empty where none is told.
    """

    name: str
    path: str
    size: int | None
    stamp: str
    digest: str


@dataclass(frozen=True, slots=True)
class Remote:
    """One remote recording as it is now. `folder` tells whether it is one."""

    url: str
    files: tuple[RemoteFile, ...]
    folder: bool
    fs: Any

    @property
    def fingerprint(self) -> str:
        """Changes whenever a name, size or mark of a file does."""
        told = "\n".join(f"{file.name}\t{file.size}\t{file.stamp}" for file in self.files)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all its files, as far as they are told."""
        return sum(file.size or 0 for file in self.files)


def find_remote(url: str) -> tuple[list[str], int]:
    """The recordings that a URL, pattern or folder names, sorted, and how many files there are none.

    A folder is one recording when it holds `metadata.yaml`, or no file that is a recording by itself; its files are
    otherwise taken one by one. Raises `FusionError` naming the URL.
    """
    with translated(url):
        fs, path, again = _place(url)
        if _is_pattern(url):
            found = {name: told["type"] for name, told in fs.glob(path, detail=True).items()}
            if not found:
                raise InputError(f"{url}: nothing there fits this pattern")
        else:
            found = {path: "directory" if _is_folder(fs, path, url) else "file"}
        recordings, others = set[str](), 0
        for name in sorted(name for name, kind in found.items() if kind == "directory"):
            inside, more = _in_folder(fs, name)
            recordings |= inside
            others += more
        below = tuple(f"{name.rstrip('/')}/" for name in recordings)
        for name in sorted(name for name, kind in found.items() if kind == "file" and not name.startswith(below)):
            if _is_pattern(url) and PurePosixPath(name).suffix.lower() not in SUFFIXES:
                others += 1
            else:
                recordings.add(name)
        return sorted(again(name) for name in recordings), others


def describe(url: str) -> Remote:
    """The files of the recording at `url` as they are now. Raises `FusionError` naming the URL."""
    with translated(url):
        fs, path, _ = _place(url)
        fs.invalidate_cache()
        if _is_folder(fs, path, url):
            root = path.rstrip("/")
            listed = {name: told for name, told in fs.find(path, detail=True).items() if told["type"] == "file"}
            if not listed:
                raise InputError(f"{url}: an empty folder")
            files = [_file(fs, name[len(root) + 1 :], name, told) for name, told in sorted(listed.items())]
            return Remote(url, tuple(files), folder=True, fs=fs)
        files = [_file(fs, _name(path), path, fs.info(path)), *_beside(fs, path)]
        return Remote(url, tuple(files), folder=False, fs=fs)


def _beside(fs: Any, path: str) -> Iterator[RemoteFile]:
    if PurePosixPath(path).suffix.lower() in _CAPTURES:
        for told in fs.ls(path.rpartition("/")[0] or "/", detail=True):
            if told["name"].endswith(".json"):
                yield _file(fs, PurePosixPath(told["name"]).name, told["name"], told)


def _file(fs: Any, name: str, path: str, told: dict[str, Any]) -> RemoteFile:
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or not name:
        raise InputError(f"{path}: a name that leads out of its folder")
    stamp = next((str(told[key]) for key in _STAMPS if told.get(key)), "")
    digests = (*_DIGESTS, "ETag") if "s3" in fs.protocol else _DIGESTS
    digest = next((f"{key} {told[key]}" for key in digests if told.get(key)), "")
    return RemoteFile("/".join(map(_fitted, name.split("/"))), path, told.get("size"), stamp, digest)


def _name(path: str) -> str:
    """The last part of a path; of a web address without the query that may follow it."""
    bare = path.partition("?")[0] if path.startswith(("http://", "https://")) else path
    return PurePosixPath(bare).name


def _fitted(part: str) -> str:
    """A part of a path that a file here can have: one too long is cut, told apart by a digest, its suffix kept."""
    data, suffix = os.fsencode(part), PurePosixPath(part).suffix
    if len(data) <= _NAME_BYTES:
        return part
    ending = suffix if len(os.fsencode(suffix)) < _NAME_BYTES - _KEPT_BYTES - 13 else ""
    return f"{data[:_KEPT_BYTES].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:12]}{ending}"


def _in_folder(fs: Any, folder: str) -> tuple[set[str], int]:
    """What in a folder is a recording, and how many of its files are none."""
    files = fs.find(folder)
    bags = {name.rpartition("/")[0] for name in files if PurePosixPath(name).name == _BAG}
    single = {name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES}
    if not bags and not single:
        return {folder}, 0
    inside = tuple(f"{bag}/" for bag in bags)
    alone = {name for name in single if not name.startswith(inside)}
    return bags | alone, sum(1 for name in files if name not in alone and not name.startswith(inside))


def _is_folder(fs: Any, path: str, url: str) -> bool:
    if url.startswith(("http://", "https://")):  # a listing is a page like any other
        return url.endswith("/")
    return bool(fs.info(path)["type"] == "directory")


def _is_pattern(url: str) -> bool:
    first = url.partition("::")[0]
    return any(mark in first for mark in ("*[" if first.startswith("http") else "*?["))


def _place(url: str) -> tuple[Any, str, Callable[[str], str]]:
    """File system and path of a URL, and what makes URLs of other paths in it."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url)
    first, chain, rest = url.partition("::")
    protocol = first.partition("://")[0]
    return fs, path, (lambda name: f"{protocol}://{name}::{rest}") if chain else fs.unstrip_protocol


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Whatever a driver raises becomes one line that names the URL."""
    try:
        yield
    except FusionError:
        raise
    except ImportError as error:
        raise InputError(f"{url}: {_missing(url, error)}") from None
    except FileNotFoundError as error:
        if _is_reached(error):
            raise InputError(f"{url}: no such file or folder there") from None
        raise UnavailableError(f"{url}: cannot be reached ({_line(error.__cause__ or error)})") from None
    except ValueError as error:
        raise InputError(f"{url}: not a URL that can be read ({_line(error)})") from None
    except Exception as error:  # noqa: BLE001 a driver's errors are its own library's, of any kind
        raise UnavailableError(f"{url}: cannot be reached ({type(error).__name__}: {_line(error)})") from None


def _is_reached(error: FileNotFoundError) -> bool:
    """Whether it is the file that is not there: fsspec says so of a web server that does not answer, too."""
    cause = error.__cause__
    if (status := getattr(cause, "status", None)) is not None:
        return status in {404, 410}
    return not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError)


def _missing(url: str, error: ImportError) -> str:
    from fsspec.registry import known_implementations

    protocols = [part.partition("://")[0] for part in url.split("::") if "://" in part]
    told = {protocol: known_implementations[protocol] for protocol in protocols if protocol in known_implementations}
    for protocol, about in told.items():
        module = str(about["class"]).partition(".")[0]
        if module != "fsspec":
            return f"{protocol}:// needs the package {module}, which is missing; install it: pip install {module}"
    return f"reading it needs a package that is missing: {_line(error)}; install it"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or "no details"
