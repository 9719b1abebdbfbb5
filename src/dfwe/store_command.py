"""`dfwe store`: checks a store's results against their digests and moves damaged ones aside."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dfwe.errors import UserError
from dfwe.pipeline.store import Store

DEFAULT = "multirun/store"


def store_command(arguments: Sequence[str]) -> int:
    """Runs `dfwe store verify|repair [FOLDER]`; returns the exit code.

    `verify` ends with 1 where a result is damaged, `repair` where one could not be moved.
    """
    options = _parser().parse_args(arguments)
    try:
        store = Store(options.folder)
        if not store.root.is_dir():
            raise UserError(f"There is no store in {store.root}; name its folder.")
        return options.action(store)
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dfwe store", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action, text in (
        ("verify", _verify, "read every file of every result and compare it with its digest"),
        ("repair", _repair, "move damaged results aside; the next run computes them again"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        command.add_argument(
            "folder",
            nargs="?",
            type=Path,
            default=os.environ.get("DFWE_STORE", DEFAULT),
            help=f"the store; DFWE_STORE, or {DEFAULT}",
        )
    return parser


def _verify(store: Store) -> int:
    damaged, number = list(store.damaged()), len(store.folders())
    for folder, words in damaged:
        _say(f"damaged  {folder.name}: {words}")
    _say(f"{number - len(damaged)} of {number} results are whole.")
    if damaged:
        _say(f"`dfwe store repair {store.root}` moves the damaged ones aside.")
    return 1 if damaged else 0


def _repair(store: Store) -> int:
    failed = 0
    for folder, words in list(store.damaged()):
        try:
            target = store.move_aside(folder)
        except OSError as error:
            failed = 1
            _say(f"cannot be moved  {folder}: {error.strerror}")
            continue
        _say(f"moved  {folder.name} ({words}) to {target.relative_to(store.root)}")
    _say("What was moved is computed again by the command that needs it.")
    return failed


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
