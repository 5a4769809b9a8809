"""The arguments of `edge-node spool`, and what they call; nothing heavy is imported before it is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusion.console import add_overrides, whole_number


def add_spool(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command with all its parts."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, required=True, help="edge.toml")
    add_overrides(shared)
    spool = commands.add_parser("spool", help="look into a spool, also while a daemon runs")
    what = spool.add_subparsers(required=True, metavar="WHAT")
    items = what.add_parser("list", parents=[shared], help="its items")
    items.add_argument("--state", action="append", default=[], help="of a state: pending, reviewed, shed, ...")
    items.add_argument("--waiting", action="store_true", help="those whose evidence is held until it is answered")
    items.add_argument("--track", type=whole_number)
    items.add_argument("--order", choices=["newest", "oldest", "value"], default="newest")
    items.add_argument("--limit", type=whole_number, default=20, metavar="N")
    items.add_argument("--json", action="store_true", help="a JSON object a line")
    items.set_defaults(run=_spool_list)
    show = what.add_parser("show", parents=[shared], help="one item with what is held of it")
    show.add_argument("item", help="as in the list: 123#1")
    show.add_argument("--picture", type=Path, metavar="FILE", help="write the kept picture there")
    show.set_defaults(run=_spool_show)
    check = what.add_parser(
        "check", parents=[shared], help="whether the file, all that is held and the books are whole"
    )
    check.set_defaults(run=_spool_check)
    copy = what.add_parser("copy", parents=[shared], help="a copy of it as it is now, to take along")
    copy.add_argument("out", type=Path)
    copy.set_defaults(run=_spool_copy)


def _spool_path(arguments: argparse.Namespace) -> Path:
    from edge_node.config import EdgeSettings
    from fusion.config import load_toml

    return load_toml(arguments.config, EdgeSettings, arguments.overrides).spool.path


def _spool_list(arguments: argparse.Namespace) -> None:
    from edge_node.inspection.command import show_list
    from edge_node.inspection.items import Wanted
    from fusion.errors import ConfigError
    from fusion.types import ItemState

    known = {state.value: state for state in ItemState}
    if unknown := [name for name in arguments.state if name not in known]:
        raise ConfigError(f"--state {unknown[0]}: no state of an item; there are {', '.join(known)}")
    states = tuple(known[name] for name in arguments.state)
    wanted = Wanted(states, arguments.track, arguments.waiting, arguments.limit, arguments.order)
    show_list(_spool_path(arguments), wanted, as_json=arguments.json)


def _spool_show(arguments: argparse.Namespace) -> None:
    from edge_node.inspection.command import show_item

    show_item(_spool_path(arguments), arguments.item, arguments.picture)


def _spool_check(arguments: argparse.Namespace) -> None:
    from edge_node.inspection.command import check

    check(_spool_path(arguments))


def _spool_copy(arguments: argparse.Namespace) -> None:
    from edge_node.inspection.command import copy

    copy(_spool_path(arguments), arguments.out)
