"""Make the protobuf stubs: `python -m fusion.wire.generate` writes them, `--check` says whether they are fresh.

Works in a checkout, with the `dev` extra. The compiler stamps its own version into what it writes, and a
runtime refuses stubs with a younger stamp. Our messages use nothing newer than the oldest runtimes we support,
so the stamps are lowered to those (`OLDEST_PROTOBUF`, `OLDEST_GRPC`: the floors in pyproject.toml).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fusion.console import guarded
from fusion.errors import ConfigError

OLDEST_PROTOBUF = (6, 31, 0)
OLDEST_GRPC = "1.76.0"

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = Path("fusion/wire/v1")
_PLUGINS = ("python", "grpc_python", "mypy", "mypy_grpc")
_PROTOBUF_COMMENT = re.compile(r"^# Protobuf Python Version: .*$", re.MULTILINE)
_PROTOBUF_STAMP = re.compile(r"(Domain\.PUBLIC,\n)    \d+,\n    \d+,\n    \d+,\n")
_GRPC_STAMP = re.compile(r"^(GRPC_GENERATED_VERSION = ).*$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the module."""
    parser = argparse.ArgumentParser(prog="fusion.wire.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a stub is stale")
    check: bool = parser.parse_args(argv).check
    return guarded("fusion.wire.generate", lambda: _check() if check else _write())


def generate(out: Path) -> list[Path]:
    """Compile every .proto into `out`; returns the files made, relative to `out`. Raises `ConfigError`."""
    import google.rpc

    sources = sorted((_ROOT / "proto" / _PACKAGE).glob("*.proto"))
    if not sources:
        raise ConfigError(f"{_ROOT / 'proto' / _PACKAGE}: no .proto files; run this in a checkout of the project")
    site = Path(next(iter(google.rpc.__path__))).parents[1]
    search = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{_ROOT / 'proto'}", f"-I{site}"]
    command += [f"--{plugin}_out={out}" for plugin in _PLUGINS]
    command += [str(source.relative_to(_ROOT / "proto")) for source in sources]
    done = subprocess.run(command, env={**os.environ, "PATH": search}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"the protobuf compiler failed: {' '.join(done.stderr.split())}")
    made = sorted((out / _PACKAGE).iterdir())
    for path in made:
        path.write_text(_lower_stamps(path.read_text(encoding="utf-8")), encoding="utf-8")
    return [path.relative_to(out) for path in made if not _serviceless(path)]


def _lower_stamps(text: str) -> str:
    major, minor, patch = OLDEST_PROTOBUF
    text = _PROTOBUF_COMMENT.sub(f"# Protobuf Python Version: {major}.{minor}.{patch}", text)
    text = _PROTOBUF_STAMP.sub(rf"\g<1>    {major},\n    {minor},\n    {patch},\n", text)
    return _GRPC_STAMP.sub(rf"\g<1>'{OLDEST_GRPC}'", text)


def _serviceless(path: Path) -> bool:
    """Whether this is the gRPC stub of a .proto without services."""
    return "_pb2_grpc" in path.name and "Stub" not in path.read_text(encoding="utf-8")


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in generate(Path(folder)):
            (_ROOT / name).write_bytes((Path(folder) / name).read_bytes())
            print(f"wrote {name}")


def _check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        names = generate(Path(folder))
        stale = [str(name) for name in names if not _same(_ROOT / name, Path(folder) / name)]
    wanted = {name.name for name in names}
    stale += [str(_PACKAGE / p.name) for p in sorted((_ROOT / _PACKAGE).glob("*_pb2*")) if p.name not in wanted]
    for name in stale:
        print(f"{name}: not what proto/ says; run python -m fusion.wire.generate", file=sys.stderr)
    return 1 if stale else 0


def _same(first: Path, second: Path) -> bool:
    return first.is_file() and first.read_bytes() == second.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
