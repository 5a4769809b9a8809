"""How well a speech encoder tells ten spoken commands apart in voices it never heard, and what else it takes for one.

Clips of Warden's Speech Commands (2018), a folder a word, are dealt into five folds by speaker. A fold's recogniser
begins where one that has only heard synthetic voices ended, and learns from the other folds' clips mixed with synthetic
words. The recipe and the threshold are chosen on speakers of those folds that it does not learn from. Every clip is
tested once a seed, as it is and under noise of kinds that no training has: the simulation's test split's, and a
kitchen. Signal to noise is the ratio of mean powers over the whole second. Told are shares with 95 % intervals, by
bootstrap over speakers; noise by clip.

    python benchmarks/speech_commands.py pack --commands FOLDER [--speech FOLDER ...] [--digits FOLDER] [--kitchen FILE]
    python benchmarks/speech_commands.py train [--device cuda] [--minutes 5] [--jobs 5] [--seeds 3]
    python benchmarks/speech_commands.py table

`pack` needs espeak-ng and flite, and puts all that a run hears in one folder of some 42 MB. `train` needs a GPU to be
done in minutes; `table` prints what `train` left.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fusion.errors import FusionError


def pack(arguments: argparse.Namespace) -> None:
    """Make the pack."""
    from fusion.training.spoken.files import PackSizes, PackSources, make_pack

    sources = PackSources(arguments.commands, tuple(arguments.speech), arguments.digits, arguments.kitchen)
    make_pack(sources, PackSizes()).save(arguments.data)


def train(arguments: argparse.Namespace) -> None:
    """Train and score every fold."""
    from fusion.training.spoken.learning import candidates
    from fusion.training.spoken.runs import Where
    from fusion.training.spoken.search import Plan, run_all

    plan = Plan(60 * arguments.minutes, arguments.seeds, arguments.jobs, arguments.steps)
    run_all(Where(arguments.data, arguments.out / "weights", arguments.device), arguments.out, plan, candidates())


def table(arguments: argparse.Namespace) -> None:
    """Print the tables."""
    from fusion.training.spoken.table import tables

    print(tables(arguments.data, arguments.out))


def main() -> None:
    """Pack, train, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(action=lambda _: print("This needs recordings: pack them first.\n\n" + parser.format_usage()))
    commands = parser.add_subparsers()
    for action in (pack, train, table):
        sub = commands.add_parser(action.__name__, help=action.__doc__)
        sub.add_argument("--data", type=Path, default=Path("runs/speech_commands/pack"), help="the pack's folder")
        sub.set_defaults(action=action)
        if action is not pack:
            sub.add_argument("--out", type=Path, default=Path("runs/speech_commands"))
        if action is pack:
            sub.add_argument("--commands", type=Path, required=True, help="the folder of the twelve folders")
            sub.add_argument("--speech", type=Path, nargs="*", default=[], help="folders of speech without a command")
            sub.add_argument("--digits", type=Path, help="a folder of other words, to test with")
            sub.add_argument("--kitchen", type=Path, help="a sound file of real noise, to test with")
        if action is train:
            sub.add_argument("--device", default="cpu")
            sub.add_argument("--minutes", type=float, default=5.0, help="the most it takes, about")
            sub.add_argument("--jobs", type=int, default=5, help="processes beside each other")
            sub.add_argument("--seeds", type=int, default=3)
            sub.add_argument("--steps", type=int, default=1_000_000, help="the most steps of a run")
    arguments = parser.parse_args()
    try:
        arguments.action(arguments)
    except FusionError as error:
        sys.exit(f"speech_commands: {error}")


if __name__ == "__main__":
    main()
