"""`dfwe store`: lists a store's results, prunes weights, checks digests, moves damage aside."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from dfwe.errors import UserError, did_you_mean
from dfwe.pipeline.disk import refusal
from dfwe.pipeline.inventory import Inventory, Result, inventory
from dfwe.pipeline.store import Store

DEFAULT = "multirun/store"
DASH = "–"  # noqa: RUF001
DAY = 86_400  # seconds
QUOTED = re.compile(r"'([^']+)'")
OPTION = re.compile(r"--[a-z-]+")
DIGEST = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{48}\b")
COLUMNS = ("result", "stage", "label", "dev", "size", "age", "used by")


def store_command(arguments: Sequence[str]) -> int:
    """Runs `dfwe store list|show|prune|verify|repair`; returns the exit code.

    `verify` ends with 1 where a result is damaged, `repair` where one could not be moved.
    """
    try:
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:
            options.command.error(f"{unknown[0]} is not known")
        return _act(options)
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _act(options: argparse.Namespace) -> int:
    try:
        store = Store(options.store)
        if not store.root.is_dir():
            raise UserError(f"There is no store in {store.root}; name its folder.")
        return options.action(store, options)
    except PermissionError as error:
        raise UserError(f"{refusal(error, [options.store.absolute()])}.") from None


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence each, with what was probably meant."""

    def error(self, message: str) -> NoReturn:
        typed = QUOTED.search(message)
        choices = re.findall(r"[\w-]+", message.partition("choose from")[2])
        known = choices or OPTION.findall(self.format_help())
        word = typed[1] if typed else message.partition(" ")[0]
        message = message.partition(" (choose from")[0]
        raise UserError(
            f"{self.prog}: {message};{did_you_mean(word, known)} `{self.prog} --help` shows what "
            "there is."
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dfwe store", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = partial(_add, commands.add_parser)
    add("list", _list, "what is there: dev score, size, age, how many results use it")
    show = add("show", _show, "all about one result: settings, parents, files, where computed")
    show.add_argument("result", help="its name or address, or the beginning of one")
    prune = add(
        "prune",
        _prune,
        "delete weights that nothing kept needs; records and tables stay whole",
        "Without names: the weights of every result from which another model was made, for the "
        "last model of a study and what unfinished work starts from stay. Nothing is deleted "
        "without --yes. Weights that are needed again are computed again.",
    )
    prune.add_argument("results", nargs="*", help="these alone, the last model of a study too")
    prune.add_argument("--keep", nargs="+", default=[], metavar="RESULT", help="but not these")
    prune.add_argument("--older-than", type=float, default=0.0, metavar="DAYS")
    prune.add_argument(
        "--yes", action="store_true", help="delete; otherwise only say what would be"
    )
    add("verify", _verify, "read every file of every result and compare it with its digest")
    add("repair", _repair, "move damaged results aside; the next run computes them again")
    return parser


def _add(
    add_parser: Callable[..., argparse.ArgumentParser],
    name: str,
    action: object,
    text: str,
    more: str = "",
) -> argparse.ArgumentParser:
    command = add_parser(name, help=text, description=f"{text}. {more}".strip())
    command.set_defaults(action=action, command=command)
    command.add_argument(
        "--store",
        type=Path,
        default=os.environ.get("DFWE_STORE", DEFAULT),
        help=f"its folder; DFWE_STORE, or {DEFAULT}",
    )
    return command


def _list(store: Store, options: argparse.Namespace) -> int:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from dfwe.reporting.terminal import console

    del options
    known = inventory(store)
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    for name in COLUMNS:
        right = name in {"dev", "size", "age", "used by"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "label")
    ordered = sorted(known.results.values(), key=lambda result: result.provenance.group)
    for group, results in groupby(ordered, key=lambda result: result.provenance.group):
        table.add_section()
        table.add_row(Text(group or "shared", style="bold"))
        for result in results:
            table.add_row(*map(Text, _cells(result, known)))
    terminal = console()
    if known.results:
        terminal.print(table)
    for line in _totals(store, known):
        terminal.print(Text(line))
    return 0


def _cells(result: Result, known: Inventory) -> tuple[str, ...]:
    where = result.provenance
    return (
        result.short,
        where.stage,
        where.label,
        DASH if result.dev is None else f"{result.dev:.2f}",
        "pruned" if result.pruned else _bytes(result.size),
        _age(result),
        str(len(known.uses[result.name])),
    )


def _totals(store: Store, known: Inventory) -> list[str]:
    size = sum(result.size for result in known.results.values())
    lines = [f"{_number(len(known.results), 'result')}, {_bytes(size)}, in {store.root}"]
    if known.unfinished:
        lines.append(f"Unfinished: {', '.join(sorted(known.unfinished))}")
    if known.unreadable:
        names = ", ".join(known.unreadable)
        lines.append(
            f"Cannot be read: {names}; `dfwe store verify --store {store.root}` says why."
        )
    return lines


def _show(store: Store, options: argparse.Namespace) -> int:
    import yaml

    known = inventory(store)
    result = known.find(options.result)
    recipe, where = result.recipe, result.provenance
    lines = {
        "result": result.name,
        "folder": str(result.folder),
        "computed by": f"stage={where.stage}" if where.stage else DASH,
        "label": where.label,
        "group": where.group or DASH,
        "dev": DASH if result.dev is None else f"{result.dev:.2f}",
        "size": _bytes(result.size) + (", weights pruned" if result.pruned else ""),
        "computed": time.strftime("%Y-%m-%d %H:%M", time.localtime(result.changed)),
        "seconds": f"{where.seconds:.1f}",
        "on": str(where),
        "commit": where.commit or DASH,
    }
    for name, text in lines.items():
        _say(f"{name:<12} {text}")
    for title, names in (("computed from", recipe.parents), ("used by", known.uses[result.name])):
        _say(f"\n{title}:" if names else f"\n{title}: nothing in this store")
        for name in names:
            other = known.results.get(name)
            label = "not in this store" if other is None else _label(other)
            _say(f"  {name}  {label}")
    _say("\nsettings:")
    text = yaml.safe_dump(recipe.settings, sort_keys=True, allow_unicode=True, width=76)
    for line in text.splitlines():
        _say("  " + DIGEST.sub(r"\1...", line))
    _say("\nfiles:")
    for name, entry in sorted(recipe.files.items()):
        _say(f"  {_bytes(entry.size):>9}  {entry.sha256[:16]}  {name}")
    return 0


def _prune(store: Store, options: argparse.Namespace) -> int:
    known = inventory(store)
    keep = [known.find(word) for word in options.keep]
    chosen = [known.find(word) for word in options.results]
    for result in chosen:
        if waiting := known.waiting[result.name]:
            raise UserError(
                f"{waiting[0]} is unfinished and starts from {result.short}; finish it first, or "
                f"delete {store.root / '.work' / waiting[0]}."
            )
    latest = time.time() - options.older_than * DAY
    candidates = chosen if chosen else known.prunable()
    found = [
        result
        for result in candidates
        if result.weights and result not in keep and result.changed <= latest
    ]
    freed = sum(result.weights for result in found)
    for result in found:
        _say(f"{_bytes(result.weights):>9}  {result.short:<16} {_label(result)}")
        if options.yes:
            store.prune(result.folder)
    seconds = sum(result.provenance.seconds for result in found)
    number = _number(len(found), "result")
    if not found:
        _say("There are no weights to prune.")
    elif options.yes:
        _say(f"Deleted the weights of {number}: {_bytes(freed)} are free.")
    else:
        _say(
            f"--yes would delete the weights of {number} and free {_bytes(freed)}; computing them "
            f"took {_duration(seconds)}."
        )
    return 0


def _verify(store: Store, options: argparse.Namespace) -> int:
    del options
    damaged, number = list(store.damaged()), len(store.folders())
    for folder, words in damaged:
        _say(f"damaged  {folder.name}: {words}")
    _say(f"{number - len(damaged)} of {number} results are whole.")
    if damaged:
        _say(f"`dfwe store repair --store {store.root}` moves the damaged ones aside.")
    return 1 if damaged else 0


def _repair(store: Store, options: argparse.Namespace) -> int:
    del options
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


def _label(result: Result) -> str:
    where = result.provenance
    return ", ".join(filter(None, [where.stage, where.label, where.group]))


def _number(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _age(result: Result) -> str:
    return _duration(time.time() - result.changed)


def _duration(seconds: float) -> str:
    """With one unit: 40 s, 12 min, 5 h, 3 d."""
    for unit, length in (("d", DAY), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
