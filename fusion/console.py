"""What the four console scripts share: one clear line an error, a documented exit code, no traceback."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable

from fusion.errors import FusionError, InputError

EXIT_INTERRUPTED = 130
EXIT_DEFECT = 70


def guarded(program: str, action: Callable[[], int | None]) -> int:
    """Run `action`; every failure becomes one line on stderr and an exit code (see `fusion.errors`).

    OpenMP's threads sleep while they wait for each other, unless the environment says otherwise: torch's would spin,
    and where anything else wants the processors a forward then takes up to twenty times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, which `action` does
    try:
        return action() or 0
    except FusionError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 the last resort before the user
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            print(f"{program}: {error.filename}: longer than a path here may be; give a shorter one", file=sys.stderr)
            return InputError.exit_code
        return _defect(program, error)


def _defect(program: str, error: Exception) -> int:
    with tempfile.NamedTemporaryFile("w", prefix=f"{program}-", suffix=".txt", delete=False) as report:
        traceback.print_exc(file=report)
    line = str(error).splitlines()[0] if str(error) else ""
    print(
        f"{program}: a defect in the program ({type(error).__name__}: {line}); details in {report.name}",
        file=sys.stderr,
    )
    return EXIT_DEFECT


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The `--set key=value` option every configurable command takes."""
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override one setting"
    )


def whole_number(text: str) -> int:
    """An option's value from 1 on. Raises what argparse tells in one line."""
    if not re.fullmatch(r"[0-9]{1,18}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 on")
    return int(text)
