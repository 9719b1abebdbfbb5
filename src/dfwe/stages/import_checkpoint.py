"""Stage `import`: a person's checkpoint, put into the store as it will be mixed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from dfwe.errors import UserError
from dfwe.markup import printable
from dfwe.pipeline.files import file_digest, read_json
from dfwe.pipeline.recipe import digest
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Run, Settings, Size, Step
from dfwe.stages.mixing import export_into, space_of
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.checkpoint import CONFIG, Checkpoint, is_tokenizers


class ImportRecord(Record):
    """Where a checkpoint came from.

    Args:
        name: the folder or Hub id that was given.
        form: of the checkpoint: plain, shards, LoRA, ...
    """

    name: str
    form: str


@dataclass(frozen=True, eq=False)
class ImportCheckpoint(Step):
    """One float32 file of a checkpoint in any form: shards, half precision, a LoRA adapter.

    Args:
        label: what tables call it.
        name: a folder or a Hub id.
        tokenizer: the name of the checkpoint whose tokenizer it gets; its own where it has one.
    """

    label: str
    name: str
    tokenizer: str

    kind: ClassVar[str] = "import"
    version: ClassVar[int] = 3
    record: ClassVar[type[Record]] = ImportRecord
    stage: str = field(default="import", init=False)
    group: str = field(default="import", init=False)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return read_checkpoint(self.name)

    @property
    def counts_as_cost(self) -> bool:
        return False

    @property
    def size(self) -> Size:
        return Size(parameters=self.checkpoint.parameters, unfinished=1)

    def settings(self) -> Settings:
        """By content alone: a checkpoint that moves keeps its address."""
        return {
            "weights": {name: file_digest(x) for name, x in self.checkpoint.files.items()},
            "beside": {name: _digest(name, x) for name, x in self._beside.items()},
        }

    @cached_property
    def _beside(self) -> dict[str, Path]:
        """What stands beside the weights, another checkpoint's tokenizer if it has none."""
        if self.tokenizer == self.name:
            return self.checkpoint.beside
        own = {x: path for x, path in self.checkpoint.beside.items() if not is_tokenizers(x)}
        return own | read_checkpoint(self.tokenizer).tokenizer_files

    def run(self, run: Run) -> ImportRecord:
        """Exports it alone, with the tokenizer, in the canonical layout."""
        from dfwe.weights.space import WeightSpace

        cache = run.context.store.cache("flat")
        space = WeightSpace.from_pretrained([self.name], cache=cache)
        space.beside = self._beside
        export_into(run, space)
        return ImportRecord(name=str(self.name), form=self.checkpoint.kind)


class BaseRecord(Record):
    """What a person's checkpoints were fine-tuned from.

    Args:
        name: the folder or Hub id that was given.
        form: of the checkpoint: plain, shards, LoRA, ...
        averaged: the tensors that it lacks, an encoder's head: the checkpoints' average.
    """

    name: str
    form: str
    averaged: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ImportBase(Step):
    """theta_0 of a person's checkpoints, in their layout and with their head.

    Args:
        name: a folder or a Hub id.
        experts: the checkpoints.
    """

    name: str
    experts: tuple[ImportCheckpoint, ...]

    kind: ClassVar[str] = "import-base"
    record: ClassVar[type[Record]] = BaseRecord
    stage: str = field(default="import", init=False)
    label: str = field(default="base", init=False)
    group: str = field(default="import", init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.experts

    @property
    def counts_as_cost(self) -> bool:
        return False

    @property
    def size(self) -> Size:
        return Size(parameters=self.experts[0].size.parameters, unfinished=1)

    def settings(self) -> Settings:
        """By content alone; the tokenizer is the checkpoints'."""
        checkpoint = read_checkpoint(self.name)
        files = checkpoint.files | {CONFIG: checkpoint.source / CONFIG}
        return {"weights": {name: file_digest(path) for name, path in files.items()}}

    def run(self, run: Run) -> BaseRecord:
        from dfwe.weights.base import base_row, theta_0

        space = space_of(run, self.experts)
        row, missing = base_row(self.name, run.weights(self.experts[0]))
        theta = theta_0(row, missing, space)
        export_into(run, space.with_rows([theta], [self.label]))
        form = read_checkpoint(self.name).kind
        return BaseRecord(name=str(self.name), form=form, averaged=tuple(sorted(missing)))


def import_checkpoints(names: Sequence[str]) -> tuple[ImportCheckpoint, ...]:
    """A step for each checkpoint; those without a tokenizer get the first one that there is.

    A checkpoint is called as its folder is or, where two folders have one name, as the parent that
    tells them apart; where none does, all are numbered.

    Raises:
        UserError: a checkpoint cannot be read, or none has a tokenizer.
    """
    checkpoints = [read_checkpoint(name) for name in names]
    pairs = list(zip(names, checkpoints, strict=True))
    with_tokenizer = [name for name, checkpoint in pairs if checkpoint.tokenizer_folder]
    if not with_tokenizer:
        raise UserError(
            "None of the checkpoints has a tokenizer, without which no text can be scored; copy "
            f"the files of their base model's tokenizer into {checkpoints[0].folder}."
        )
    labels = _distinct_names(names)
    if len(set(labels)) < len(labels):
        labels = [f"{number} {name}" for number, name in enumerate(names, 1)]
    return tuple(
        ImportCheckpoint(
            printable(label), name, name if checkpoint.tokenizer_folder else with_tokenizer[0]
        )
        for label, (name, checkpoint) in zip(labels, pairs, strict=True)
    )


def _digest(name: str, path: Path) -> str:
    """sha256 of a file beside the weights, in hex.

    Without how the last text before saving was cut and padded, which tokenizer.json records.
    """
    if name == "tokenizer.json":
        try:
            return digest({**read_json(path), "truncation": None, "padding": None})
        except (OSError, ValueError):  # damaged: the tokenizer's loading says so
            pass
    return file_digest(path)


def _distinct_names(names: Sequence[str]) -> list[str]:
    """Each folder's name or, where these are equal, the nearest parents' names that all differ."""
    paths = [Path(name).expanduser() for name in names]
    paths = [path if path.name not in ("", "..") else path.resolve() for path in paths]
    for level in zip(*(reversed(path.parts) for path in paths), strict=False):
        if len(set(level)) == len(level):
            return list(level)
    return [path.name for path in paths]
