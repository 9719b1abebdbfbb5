"""`dfwe --help`: what dfwe is, its stages, groups and keys; `dfwe --help KEY`: one of them.

What is said of a group, an option or a stage is the comment beside it in `conf/`; of a key, what
the class says that takes it.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from dfwe.config import config_folder, groups, plain
from dfwe.plain import is_list, is_mapping
from dfwe.schema import RunSettings, find, keys_of
from dfwe.settings import in_words

WIDTH, COLUMN = 80, 18  # of the text; where its second column begins
ABOUT = (
    "dfwe fine-tunes experts on related tasks and searches, without gradients, for the mixture "
    "of their weights that is best on a small dev split (arXiv 2307.03506)."
)
TRY = {
    "dfwe experiment=quickstart": "the whole method on shipped data, in minutes",
    "dfwe plan task=meld": "what that would compute, and how long it takes",
    "dfwe --help training": "a group's options and keys",
}
OPTIONS = {
    "-m": "a sweep over values with commas: seed=0,1,2",
    "-v, -q": "show the whole log; show warnings and results alone",
    "--help KEY": "what a group, an option (search=line) or a key means",
    "--cfg job": "print the composed configuration",
    "--config-dir D": "options of your own: D/task/mine.yaml is task=mine",
    "-sc install=bash": 'complete keys and options: eval "$(dfwe -sc install=bash)"',
    "--hydra-help": "further options, Hydra's",
    "--version": "dfwe's version",
}
CHOSEN = re.compile(r"^  - ([\w/]+): (\w+|\[\]) +# (.+)$", re.MULTILINE)
ABOVE = re.compile(r"(?:# @.*\n)?((?:# .*\n)+)")  # the comment that a file begins with


def overview(commands: Mapping[str, str]) -> str:
    """What `dfwe --help` prints.

    Args:
        commands: subcommand -> what it does.
    """
    conf = Path(config_folder())
    chosen = CHOSEN.findall((conf / "config.yaml").read_text())
    keys = {name: _sentence(key.text) for name, key in keys_of(RunSettings).items()}
    return "\n\n".join(
        [
            textwrap.fill(ABOUT, WIDTH),
            "Usage: dfwe [COMMAND] [GROUP=OPTION ...] [KEY=VALUE ...]",
            _table("Try:", TRY, 29),
            _table("Stages, stage=STAGE:", dict(_options(conf, "stage"))),
            _table("Groups:", {group: f"{text} ({name})" for group, name, text in chosen}),
            _table("Keys:", keys),
            _table("Commands:", commands),
            _table("Options:", OPTIONS),
        ]
    )


def explain(words: Sequence[str]) -> str:
    """What `dfwe --help KEY ...` prints.

    Args:
        words: groups, `GROUP=OPTION` and dotted keys; overrides that the keys are to be seen with.

    Raises:
        UserError: there is no such key.
    """
    overrides = [word for word in words if "=" in word]
    asked = [word for word in words if "=" not in word]
    with initialize_config_dir(config_folder(), version_base="1.3"):
        cfg = compose("config", overrides=overrides, return_hydra_config=True)
    chosen = {group: name for group, name in cfg.hydra.runtime.choices.items() if name}
    folders = [Path(s.path) for s in cfg.hydra.runtime.config_sources if s.schema == "file"]
    with open_dict(cfg):
        del cfg["hydra"]
    composed = Composed(plain(cfg), chosen, folders)
    return "\n\n".join(map(composed.explain, asked or [w.partition("=")[0] for w in overrides]))


@dataclass(frozen=True)
class Composed:
    """A configuration, group -> the chosen option, and the folders of options."""

    config: Mapping[object, object]
    chosen: Mapping[str, str]
    folders: Sequence[Path]

    def explain(self, key: str) -> str:
        """What a group or key means, and what is in it."""
        options = dict(row for folder in self.folders for row in _options(folder, key))
        place = key.replace("/", ".")
        parts = [_table(f"{key}=OPTION:", options, whole=True) if options else self._key(place)]
        if rows := {inner: self._type(inner) for inner in self._inside(place)}:
            values = {f"{inner}={_shown(self._at(inner))}": kind for inner, kind in rows.items()}
            chosen = f" of {key}={self.chosen[key]}" if key in self.chosen else ""
            parts.append(_table(f"Keys{chosen}:", values, whole=True))
        return "\n\n".join(parts)

    def _key(self, key: str) -> str:
        found = find(self.config, key, groups())
        texts = [in_words(found.annotation), found.text or self._comment(key)]
        indented = [
            textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
            for text in texts
            if text
        ]
        return "\n".join([f"{key}={_shown(self._at(key))} by default", *indented])

    def _type(self, key: str) -> str:
        return in_words(find(self.config, key, groups()).annotation)

    def _inside(self, place: str) -> Iterator[str]:
        """The keys below a place; those of a part by dotted path in its stead."""
        node = self._at(place)
        for name, value in node.items() if is_mapping(node) else ():
            inner = f"{place}.{name}"
            if is_mapping(value) and "_target_" in value:
                yield from self._inside(inner)
            elif not str(name).startswith("_"):
                yield inner

    def _at(self, key: str) -> object:
        node: object = self.config
        for part in key.split("."):
            node = node.get(part) if is_mapping(node) else None
        return node

    def _comment(self, key: str) -> str:
        """What is written beside a key in the file of its group's option, or of the options that
        this one is made of."""
        group, _, inner = key.partition(".")
        line = re.compile(rf"^ *{inner.rpartition('.')[2]}:.* # (.+)$", re.MULTILINE)
        pending = [self.chosen[group]] if group in self.chosen else []
        for option in pending:  # grows
            texts = [file.read_text() for file in self._files(group, option)]
            pending += [name for text in texts for name in re.findall(r"^  - (\w+)$", text, re.M)]
            for found in map(line.search, texts):
                if found is not None:
                    return found[1]
        return ""

    def _files(self, group: str, option: str) -> Iterator[Path]:
        files = (folder / group / f"{option}.yaml" for folder in self.folders)
        return (file for file in files if file.is_file())


def _options(conf: Path, group: str) -> Iterator[tuple[str, str]]:
    """Each option of a group and what its file begins with, its first sentence."""
    subgroups = [conf / name for name, _, _ in CHOSEN.findall((conf / "config.yaml").read_text())]
    for path in sorted((conf / group).rglob("*.yaml"), key=lambda path: path.with_suffix("")):
        if group and not any(p in subgroups and p != conf / group for p in path.parents):
            found = ABOVE.match(path.read_text())
            name = path.relative_to(conf / group).with_suffix("").as_posix()
            yield name, _sentence(re.sub(r"\n?# ", " ", found[1]).strip()) if found else ""


def _sentence(text: str) -> str:
    """The first of a text."""
    first = text.partition(". ")[0].rstrip()
    return first if first.endswith("...") else first.removesuffix(".")


def _table(
    title: str, rows: Mapping[str, str], column: int = COLUMN, *, whole: bool = False
) -> str:
    """A title and a row per entry, each on one line unless the `whole` text is to be shown."""
    column = max([column, *(len(name) + 2 for name in rows if len(name) < WIDTH // 2)])
    lines = [title]
    tail = " " * (column + 2)
    for name, text in rows.items():
        head = f"  {name:{column}}"
        if len(name) > column:
            lines.append(head)
            head = tail
        if whole:
            lines.append(textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=tail))
        else:
            lines.append(head + textwrap.shorten(text, WIDTH - len(head), placeholder=" ..."))
    return "\n".join(line.rstrip() or tail for line in lines)


def _shown(value: object) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if is_mapping(value):
        return "{...}" if value else "{}"
    if is_list(value):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)
