"""Do these checkpoints fit together? A report before anything is mixed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, cast

from pydantic import JsonValue

from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.checkpoint import CONFIG, FLOATS, Checkpoint, is_tokenizers
from dfwe.weights.generation import Generation, generation_of
from dfwe.weights.judgement import (
    check_kinds,
    first_not_finite,
    head_names,
    not_finite,
)
from dfwe.weights.loading import digest_of, load_network, load_tokenizer
from dfwe.weights.readout import POOLING, Readout, readout_of
from dfwe.weights.rows import Row, row_of, stored_row

HARMLESS = {
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "architectures",
    "model_type",
    "vocab_size",
    "finetuning_task",
}
READ_AT_MEAN = (
    "The heads read the mean of the tokens, where transformers' own classifier would read the "
    "first token; load a model, an export too, with: from dfwe import load_model; "
    "model, tokenizer = load_model(FOLDER)"
)
WIDTH = 80  # of a terminal
FEW = 5  # keys of a configuration that a warning names
COLUMNS = (
    "checkpoint",
    "architecture",
    "tensors",
    "parameters",
    "precision",
    "vocabulary",
    "tokenizer",
)


@dataclass(frozen=True)
class Examined:
    """A checkpoint as it was read for mixing.

    Args:
        checkpoint: its files.
        network: the class of its network; None for bare weights.
        head: the names of its output embedding's weight.
        config: its configuration as transformers reads it, an adapter's as merged; empty for bare
            weights.
        settings: what an adapter changes in the base's `config.json`.
        row: its tensors.
        tokenizer: a digest of its tokenizer; None without one.
        generation: its generation settings; None where it does not generate.
        notes: what is to be said of its tensors, in sentences.
    """

    checkpoint: Checkpoint
    network: str | None
    head: frozenset[str]
    config: Mapping[str, JsonValue]
    settings: Mapping[str, JsonValue]
    row: Row
    tokenizer: str | None
    generation: Generation | None
    notes: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.checkpoint.folder


@dataclass(frozen=True)
class Report:
    """The comparison's result; `str(report)` is a table, then the problems, else the warnings.

    The table has the columns in which the checkpoints differ; what they share is a line below.

    Args:
        cells: a row a checkpoint, under COLUMNS.
        problems: sentences; with any of these the checkpoints cannot be mixed.
        warnings: sentences; the mixture works, but look.
        notes: sentences about how the mixture is used.
        checkpoints: those that can be mixed with others.
    """

    cells: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    checkpoints: tuple[Examined, ...]

    def __str__(self) -> str:
        lines = [self.table, *(f"PROBLEM  {sentence}" for sentence in self.problems)]
        if not self.problems:
            lines += [f"warning  {sentence}" for sentence in self.warnings]
            lines += [f"note     {sentence}" for sentence in self.notes]
            lines.append(f"These {len(self.cells)} checkpoints can be mixed.")
        return "\n".join(lines)

    @property
    def table(self) -> str:
        """In what the checkpoints differ, and a line on what they share."""
        names, *facts = zip(COLUMNS, *self.cells, strict=True)
        same = [column for column in facts if len(set(column[1:])) == 1]
        table = [*(column for column in facts if column not in same), names]
        widths = [max(map(len, column)) for column in table]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in zip(*table, strict=True)
        ]
        if same:
            shared = ", ".join(f"{column[0]} {column[1]}" for column in same)
            lines += wrap(f"All: {shared}", WIDTH)
        return "\n".join(line.rstrip() for line in lines)


def preflight(folders: str | Path | Iterable[str | Path], cache: Path | None = None) -> Report:
    """Read checkpoints one by one as transformers does, and compare them with the first.

    Every tensor is judged, every value read, the forward pass run on three tokens, the tokenizer
    loaded. Nothing is raised: what is wrong stands in the report.

    Args:
        folders: each a folder or Hub id of a model or of a LoRA adapter, or `package:NAME/FOLDER`.
        cache: where flat copies are kept of checkpoints that cannot be mapped as they are.
    """
    folders = [folders] if isinstance(folders, str | Path) else list(folders)
    problems: list[str] = []
    checkpoints: list[Checkpoint] = []
    for folder in folders:
        try:
            checkpoints.append(read_checkpoint(folder))
        except UserError as error:
            problems.append(str(error))
    if not folders:
        problems.append("A weight space needs at least one checkpoint.")
    bare = not any((checkpoint.source / CONFIG).exists() for checkpoint in checkpoints)
    examined: list[Examined] = []
    cells: list[tuple[str, ...]] = []
    for checkpoint in checkpoints:
        try:
            one = _examine(checkpoint, cache, bare=bare)
        except UserError as error:
            problems.append(str(error))
            cells.append(_cells(checkpoint, None))
            continue
        examined.append(one)
        cells.append(_cells(checkpoint, one))
    warnings = [note for one in examined for note in one.notes]
    for other in examined[1:]:
        problems += _compare(examined[0], other)
        warnings += _differences(examined[0], other)
    for one in examined:
        if one.tokenizer is None:
            warnings.append(
                f"{one.folder} has no tokenizer; mixing goes on without, and "
                "an export takes the first checkpoint's."
            )
    mismatches, notes = _readouts(examined)
    return Report(tuple(cells), (*problems, *mismatches), tuple(warnings), notes, tuple(examined))


def _examine(checkpoint: Checkpoint, cache: Path | None, *, bare: bool) -> Examined:
    """Read a checkpoint; without a configuration where it is one of `bare` weights.

    Raises:
        UserError: it cannot be mixed by itself.
    """
    folder = checkpoint.folder
    if bare:
        check_kinds(checkpoint)
        row = stored_row(folder, cache)
        spans = ((name, row.theta[start:stop]) for name, start, stop, _ in row.layout.spans())
        if (wrong := first_not_finite(spans)) is not None:
            raise not_finite(folder, wrong)
        return Examined(checkpoint, None, frozenset(), {}, {}, row, None, None, ())
    loaded = load_network(checkpoint)
    network = loaded.network
    row = row_of(checkpoint, loaded, cache)
    tokenizer = load_tokenizer(checkpoint, network)
    config = cast(Any, network.config).to_dict()
    return Examined(
        checkpoint,
        type(network).__name__,
        head_names(network),
        config,
        loaded.settings,
        row,
        None if tokenizer is None else digest_of(tokenizer),
        generation_of(network) if cast(Any, network).can_generate() else None,
        loaded.notes,
    )


def _compare(first: Examined, other: Examined) -> list[str]:
    """At most one sentence: the first reason why the two cannot be mixed."""
    if None not in (first.network, other.network) and first.network != other.network:
        return [
            f"{other.folder} is a {other.network} and {first.folder} a {first.network}; mix "
            "checkpoints of one architecture."
        ]
    shapes = [
        dict(zip(x.row.layout.names, x.row.layout.shapes, strict=True)) for x in (first, other)
    ]
    for name in sorted(shapes[0].keys() ^ shapes[1].keys()):
        owner, lacking = (first, other) if name in shapes[0] else (other, first)
        wayout = "mix checkpoints of one architecture and one size"
        if name in owner.head:
            wayout = "it has tied it to the embeddings; save both models tied or both untied"
        return [f"{owner.folder} has the tensor '{name}', {lacking.folder} has not: {wayout}."]
    for name, one in shapes[0].items():
        two = shapes[1][name]
        if one != two:
            sizes = first.config.get("vocab_size"), other.config.get("vocab_size")
            hint = "mix checkpoints of one model"
            if sizes[0] != sizes[1]:
                hint = (
                    f"their vocabularies have {sizes[1]} and {sizes[0]} entries: resize them "
                    "alike before fine-tuning"
                )
            return [
                f"'{name}' has the shape {list(two)} in {other.folder} but "
                f"{list(one)} in {first.folder}; {hint}."
            ]
    return []


def _readouts(checkpoints: Sequence[Examined]) -> tuple[list[str], tuple[str, ...]]:
    """Problems with where the heads of classifiers read, and a note where they read the mean."""
    problems: list[str] = []
    folders: dict[Readout, Path] = {}
    for checkpoint in checkpoints:
        if (checkpoint.network or "").endswith("ForSequenceClassification"):
            try:
                folders.setdefault(readout_of(checkpoint.checkpoint.source), checkpoint.folder)
            except UserError as error:
                problems.append(str(error))
    if len(folders) > 1:
        problems.append(
            f"The head of {folders['mean']} reads the mean of its tokens, that of "
            f"{folders['first']} the first token; mix checkpoints that were trained alike, or put "
            f"their {POOLING} right."
        )
    return problems, (READ_AT_MEAN,) if "mean" in folders else ()


def _differences(first: Examined, other: Examined) -> list[str]:
    warnings: list[str] = []
    a, b = first.checkpoint, other.checkpoint
    keys = (set(a.config) | set(b.config)) - HARMLESS
    keys = sorted(key for key in keys if a.config.get(key) != b.config.get(key))
    if a.config and b.config and keys:
        more = f" and {len(keys) - FEW} more keys" if len(keys) > FEW else ""
        warnings.append(
            f"The configurations of {b.folder} and {a.folder} differ in "
            f"{', '.join(keys[:FEW])}{more}; an export takes the first checkpoint's."
        )
    one, two = ("/".join(d for d in c.dtypes if d in FLOATS) for c in (a, b))
    if one != two:
        warnings.append(
            f"{b.folder} is stored as {two} and {a.folder} as {one}; both are "
            "mixed in single precision."
        )
    if None not in (first.tokenizer, other.tokenizer) and first.tokenizer != other.tokenizer:
        warnings.append(
            f"The tokenizers of {b.folder} and {a.folder} differ; an export "
            "takes the first checkpoint's."
        )
    if first.generation is not None and other.generation is not None:
        settings = first.generation.differing(other.generation)
        if settings:
            warnings.append(
                f"The generation settings of {b.folder} and {a.folder} differ in "
                f"{', '.join(settings)}; answers and an export have the first checkpoint's."
            )
    modules = _modules(a).keys() & _modules(b).keys()
    changed = sorted(name for name in modules if _modules(a)[name] != _modules(b)[name])
    if changed:
        warnings.append(
            f"{', '.join(changed)} of {b.folder} and {a.folder} differ and are not mixed; an "
            "export takes the first checkpoint's."
        )
    return warnings


def _modules(checkpoint: Checkpoint) -> dict[str, str]:
    """Name -> digest of the files of a sentence encoder's further modules."""
    files = checkpoint.beside.items()
    return {
        name: file_digest(path) for name, path in files if "/" in name and not is_tokenizers(name)
    }


def _cells(checkpoint: Checkpoint, examined: Examined | None) -> tuple[str, ...]:
    layout, tensors = checkpoint.layout, len(checkpoint.tensors)
    tokenizer = None if examined is None else examined.tokenizer
    if examined is not None:
        layout = examined.row.layout
        tensors = len(layout.names) + len(examined.row.constants)
    return (
        str(checkpoint.folder),
        checkpoint.kind,
        str(tensors),
        f"{layout.size:,}",
        "/".join(checkpoint.dtypes),
        str((examined.config if examined else checkpoint.config).get("vocab_size", "-")),
        tokenizer[:8] if tokenizer else "-",
    )
