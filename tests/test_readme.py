"""The README's commands exist, answer quickly, and the demo does what it says."""

import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.cli import _parser

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text()
PROGRAMS = ("fusion", "edge-node", "cloud-node", "replay")
PARSERS = {
    "fusion": "fusion.cli",
    "edge-node": "edge_node.cli",
    "cloud-node": "cloud_node.cli",
    "replay": "replay.cli",
}
_TRAIN_DETECTOR = ["fusion", "train", "detector"]
COMMANDS = [c for c in re.findall(r"`([^`\n]+)`", README) if c.split()[0] in PROGRAMS and len(c.split()) > 1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_takes_less_than_a_second_of_work(program: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert program in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str) -> None:
    words = shlex.split(command)
    script = f"from {PARSERS[words[0]]} import _parser; _parser().parse_args({words[1:]!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    """Lines after a prompt, whatever their files and hosts are called."""
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^\$ (.*)$", page.read_text(), re.MULTILINE)]
    script = "import importlib\n" + "\n".join(
        f"importlib.import_module({PARSERS[words[0]]!r})._parser().parse_args({words[1:]!r})"
        for words in lines
        if words[0] in PARSERS
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_two_commands_are_targets() -> None:
    block = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert block
    commands = [line.removeprefix("$ ") for line in block[1].splitlines()]
    assert commands == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_block_write_into_folders_of_their_own(page: Path) -> None:
    """A second detector, student or pruned one in the same folder is refused."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        seen = set()
        for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            words = shlex.split(line, comments=True)
            if words[:2] not in (["fusion", "distill"], ["fusion", "prune"]) and words[:3] != _TRAIN_DETECTOR:
                continue
            given = _parser().parse_args(words[1:])
            where = (words[1], given.task, given.out)
            assert where not in seen, line
            seen.add(where)


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize(
    ("given", "resume", "data"), [((), False, None), (("RESUME=1", "PCB=my boards"), True, "my boards")]
)
def test_training_everything_can_be_gone_on_with(given: tuple[str, ...], resume: bool, data: str | None) -> None:
    """What `make models` would run."""
    dry = ["make", "--dry-run", "--no-print-directory", "UV=uv", "models", *given]
    told = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    words = shlex.split(told[-1])
    understood = _parser().parse_args(words[words.index("fusion") + 1 :])
    assert (understood.model, understood.resume) == ("all", resume)
    assert understood.data == (Path(data) if data else None)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
