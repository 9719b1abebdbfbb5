"""What may be typed after `dfwe`, and what Hydra refuses of it, each in one sentence."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from dfwe.config import config_folder, groups, plain
from dfwe.errors import UserError, did_you_mean, reason
from dfwe.markup import printable
from dfwe.schema import RunSettings, dotted, keys_of
from dfwe.settings import unknown_setting

# Hydra's options, those that take a word first.
VALUED = (
    *("--cfg", "-c", "--package", "-p", "--shell-completion", "-sc", "--info", "-i"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
)
PLAIN = ("--resolve", "--run", "-r", "--multirun", "-m", "--hydra-help")
OWN = ("--help", "-h", "--version", "--verbose", "-v", "--quiet", "-q")


def check_words(words: Sequence[str], commands: Iterable[str]) -> None:
    """Refuses words that are neither options nor settings, and choices that are no names.

    Args:
        words: what was typed.
        commands: the subcommands.

    Raises:
        UserError: an option is unknown, a word is no setting, or a group's choice no name.
    """
    for before, word in zip(["", *words], words, strict=False):
        option = word.partition("=")[0]
        key = option.lstrip("+~")
        if word.startswith("-"):
            if option not in (*VALUED, *PLAIN, *OWN):
                near = did_you_mean(option, (name for name in (*VALUED, *PLAIN, *OWN)))
                raise UserError(
                    f"{printable(word)} is no option;{near} `dfwe --help` shows what there is."
                )
        elif (not key or ("=" not in word and word[0] != "~")) and before not in VALUED:
            near = did_you_mean(word, [*commands, *_tops()])
            raise UserError(
                f"'{printable(word)}' is neither a command nor KEY=VALUE;{near} `dfwe --help` "
                "shows what there is."
            )

    for word in words:
        _check_choice(word)


def _check_choice(word: str) -> None:
    """Refuses `task=null`, `~task=1` and such, which end in a traceback of Hydra's."""
    key, _, choices = word.partition("=")
    group = key.lstrip("+~").partition("@")[0]
    if group.partition("/")[0] not in groups() or "." in group:
        return
    for choice in choices.split(",") if choices else ():
        with suppress(HydraException):  # which Hydra raises once more
            value = OverridesParser.create().parse_override(f"{group}={choice}").value()
            if not isinstance(value, str | list):
                raise UserError(
                    f"{printable(word)}: {choice} is no name; `dfwe --help {group}` shows what "
                    "there is."
                )


def refused(error: HydraException, words: Sequence[str]) -> str:
    """The sentence for what Hydra could not compose or parse.

    Args:
        error: Hydra's.
        words: what was typed.
    """
    first, *more = str(error).strip().splitlines()
    if isinstance(error, OverrideParseException):
        why = more[0] if more and not more[0].startswith("See ") else first
        return f"{error.override} cannot be read ({why}); quote the word, no blanks inside."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = error.options or ()
        if group and known:
            near = did_you_mean(name, known)
            return f"{group}={name} is unknown;{near} known: {', '.join(known)}."
    if "Could not append to config. An item is already at" in first:
        return f"{first.partition('at ')[2].rstrip('.')} is there already; leave out the +."
    if found := re.search(r"Could not override '([^']+)'", first):
        return str(unknown_setting(found[1], [*_known(words), *groups()]))
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        first = f"{first.partition(', set env')[0]} ({reason(error.__cause__)})"
    if isinstance(error.__cause__, OmegaConfBaseException):
        first = f"{first}: {str(error.__cause__).splitlines()[0]}"
    return first.removeprefix("Error: ").removeprefix("Error ")


def _tops() -> list[str]:
    return [*groups(), *keys_of(RunSettings)]


def _known(words: Sequence[str]) -> list[str]:
    """The dotted keys of the configuration with the options that were typed."""
    chosen = [word for word in words if word.partition("=")[0] in groups()]
    GlobalHydra.instance().clear()
    for overrides in (chosen, []):
        with suppress(HydraException), initialize_config_dir(config_folder(), version_base="1.3"):
            return list(dotted(plain(compose("config", overrides=list(overrides)))))
    return []
