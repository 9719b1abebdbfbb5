"""Stage `import`: a person's own checkpoint, put into the store as it will be mixed."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.files import file_digest
from dfwe.pipeline.recipe import Recipe
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.rows import Checkpoint, tokenizer_digest

VERSION = 2
CONFIGS = ("config.json", "generation_config.json")
ROLES = {"baseline", "dfwe", "uniform", "one_standard_error"}  # what results call other models


@dataclass(frozen=True)
class ImportCheckpoint:
    """One float32 file of a checkpoint in any form: shards, half precision, a LoRA adapter.

    Args:
        label: what tables call it.
        name: a folder or a Hub id.
        tokenizer: a folder or Hub id whose tokenizer it gets; its own where it has one.
    """

    label: str
    name: str
    tokenizer: str

    stage = "import"

    @property
    def parents(self) -> tuple[Step, ...]:
        return ()

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return read_checkpoint(self.name)

    @cached_property
    def recipe(self) -> Recipe:
        """By content alone: a checkpoint that moves keeps its address."""
        files = [*self.checkpoint.files, *(self.checkpoint.source / name for name in CONFIGS)]
        tokenizer = read_checkpoint(self.tokenizer).tokenizer_files
        settings = {
            "files": [file_digest(f) for f in files if f.is_file()],
            "tokenizer": {f.name: tokenizer_digest(f) for f in tokenizer},
        }
        return Recipe(self.stage, VERSION, settings)

    def run(self, context: Context) -> None:
        """Export it alone, with the tokenizer, into the store."""
        from dfwe.weights.space import WeightSpace

        began = time.monotonic()
        export = context.store.work(self.recipe) / "export"
        shutil.rmtree(export, ignore_errors=True)
        cache = context.store.cache("flat")
        WeightSpace.from_pretrained([self.name], cache=cache).export([1.0], export)
        for path in read_checkpoint(self.tokenizer).tokenizer_files:
            if not (export / path.name).exists():
                shutil.copyfile(path, export / path.name)

        def fill(folder: Path) -> None:
            for path in export.iterdir():
                path.rename(folder / path.name)

        with context.log(self.recipe, self.label, self.stage) as run_log:
            made = context.store.commit(
                self.recipe,
                fill,
                {
                    "stage": self.stage,
                    "label": self.label,
                    "name": str(self.name),
                    "kind": self.checkpoint.kind,
                    "seconds": time.monotonic() - began,
                },
            )
            run_log.result(self.recipe, made)


def import_checkpoints(names: tuple[str, ...]) -> tuple[ImportCheckpoint, ...]:
    """A step for each checkpoint; those without a tokenizer get the first one that there is.

    A checkpoint is called as its folder is or, where two folders have one name, as the parent that
    tells them apart; where none does, or one has the name of a role, all are numbered.

    Raises:
        UserError: a checkpoint cannot be read, or none has a tokenizer.
    """
    found = [read_checkpoint(name) for name in names]
    with_one = [n for n, checkpoint in zip(names, found, strict=True) if checkpoint.tokenizer]
    if not with_one:
        raise UserError(
            "None of the checkpoints has a tokenizer, without which no text can be scored; copy "
            f"the files of their base model's tokenizer into {found[0].folder}."
        )
    short = _apart(names)
    clear = len(set(short)) == len(short) and not ROLES & set(short)
    labels = short if clear else [f"{number} {name}" for number, name in enumerate(names, 1)]
    return tuple(
        ImportCheckpoint(label, name, name if checkpoint.tokenizer else with_one[0])
        for label, name, checkpoint in zip(labels, names, found, strict=True)
    )


def _apart(names: Sequence[str]) -> list[str]:
    """Each folder's name or, where these are equal, the nearest parents named that all differ."""
    paths = [Path(name).expanduser() for name in names]
    paths = [path if path.name not in ("", "..") else path.resolve() for path in paths]
    levels = zip(*(reversed(path.parts) for path in paths), strict=False)
    differ = (list(level) for level in levels if len(set(level)) == len(level))
    return next(differ, [path.name for path in paths])


def by_label(alpha: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """An alpha from the store under the labels that its models have now.

    It lies there by content and in their order, with the labels of its making: a checkpoint may
    have moved since. With groups it is group -> label -> weight.
    """
    if any(isinstance(row, Mapping) for row in alpha.values()):
        return {group: by_label(row, labels) for group, row in alpha.items()}
    return dict(zip(labels, alpha.values(), strict=True))
