"""Do these checkpoints fit together? A report before anything is mixed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from pydantic import JsonValue

from dfwe.errors import UserError
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.layout import Layout
from dfwe.weights.readout import POOLING, Readout, readout_of
from dfwe.weights.rows import FLOATS, Checkpoint, tokenizer_size

if TYPE_CHECKING:
    from torch import Tensor

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
COLUMNS = (
    "checkpoint",
    "architecture",
    "tensors",
    "parameters",
    "precision",
    "vocabulary",
    "tokenizer",
    "finite",
)


@dataclass(frozen=True)
class Report:
    """The comparison's result; `str(report)` is a table, then the problems and warnings.

    The table has the columns in which the checkpoints differ; what they share is a line below.

    Args:
        cells: a row a checkpoint, under COLUMNS.
        problems: sentences; with any of these the checkpoints cannot be mixed.
        warnings: sentences; the mixture works, but look.
        notes: sentences about how the mixture is used.
        checkpoints: those that could be read.
        rows: theta (P,) of each, mapped.
    """

    cells: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    rows: tuple["Tensor", ...]

    @property
    def layout(self) -> Layout:
        return self.checkpoints[0].layout

    def __str__(self) -> str:
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
        lines += [f"PROBLEM  {sentence}" for sentence in self.problems]
        lines += [f"warning  {sentence}" for sentence in self.warnings]
        lines += [f"note     {sentence}" for sentence in self.notes]
        if not self.problems:
            lines.append(f"These {len(self.cells)} checkpoints can be mixed.")
        return "\n".join(line.rstrip() for line in lines)


def preflight(folders: str | Path | Iterable[str | Path], cache: Path | None = None) -> Report:
    """Compare checkpoints with the first: tensors, shapes, architecture, tokenizer, values.

    A checkpoint is a folder or Hub id of a model or of a LoRA adapter.
    Every value is read once. `cache` is where flat copies are kept of checkpoints that cannot be
    mapped as they are. Nothing is raised: what is wrong stands in the report.
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
    configured = any(checkpoint.config for checkpoint in checkpoints)
    warnings: list[str] = []
    rows: list[Tensor] = []
    cells: list[tuple[str, ...]] = []
    for checkpoint in checkpoints:
        faults, finite = _alone(checkpoint, configured), "-"
        if not faults:
            rows.append(checkpoint.row(cache))
            odd = _not_finite(rows[-1], checkpoint.layout)
            finite = "yes" if odd is None else f"no: {odd}"
            if odd is not None:
                faults = [
                    f"'{odd}' in {checkpoint.folder} holds values that are not finite; "
                    "training diverged, so leave this checkpoint out."
                ]
        problems += faults
        cells.append(_cells(checkpoint, finite))
        if checkpoint is not checkpoints[0]:
            problems += _compare(checkpoints[0], checkpoint)
            warnings += _differences(checkpoints[0], checkpoint)
        if checkpoint.tokenizer is None:
            warnings.append(
                f"{checkpoint.folder} has no tokenizer; mixing goes on without, and "
                "an export takes the first checkpoint's."
            )
    mismatches, notes = _readouts(checkpoints)
    return Report(
        tuple(cells),
        (*problems, *mismatches),
        tuple(warnings),
        notes,
        tuple(checkpoints),
        tuple(rows),
    )


def _alone(checkpoint: Checkpoint, configured: bool) -> list[str]:
    """What is wrong with it by itself; bare weights will do where none of them is `configured`."""
    config, folder = checkpoint.config, checkpoint.folder
    coded = [kind for kind in checkpoint.dtypes if kind.startswith("F") and kind not in FLOATS]
    if "quantization_config" in config or coded:
        return [f"{folder} is quantised; dequantise it and save it in half or single precision."]
    if not checkpoint.layout.names:
        return [f"{folder} holds no floating-point tensor; save the model again."]
    path = checkpoint.source / "config.json"
    if not config and (configured or path.exists()):
        return [
            f"{path} is {'damaged' if path.exists() else 'missing'}; save the model again "
            "with save_pretrained."
        ]
    return _tokenizer(checkpoint)


def _tokenizer(checkpoint: Checkpoint) -> list[str]:
    """What is wrong with its tokenizer.json; a tokenizer of fewer tokens than rows is usual."""
    rows = checkpoint.config.get("vocab_size")
    for path in (path for path in checkpoint.tokenizer_files if path.name == "tokenizer.json"):
        try:
            size = tokenizer_size(path)
        except (OSError, ValueError) as error:
            return [f"{path} cannot be read ({error}); save the tokenizer again."]
        if isinstance(rows, int) and size > rows:
            return [
                f"The tokenizer of {checkpoint.folder} has {size} tokens but its embedding "
                f"{rows} rows; take the tokenizer that the model was trained with, or resize "
                "all models alike (resize_token_embeddings)."
            ]
    return []


def _compare(first: Checkpoint, other: Checkpoint) -> list[str]:
    """At most one sentence: the first reason why the two cannot be mixed."""
    for key in ("model_type", "architectures"):
        a, b = first.config.get(key), other.config.get(key)
        if a and b and a != b:
            return [
                f"{other.folder} is a {_named(b)} and {first.folder} a {_named(a)}; mix "
                "checkpoints of one architecture."
            ]
    both = first.tensors | other.tensors
    for name in sorted(first.tensors.keys() ^ other.tensors.keys()):
        if both[name].dtype in FLOATS:  # of the others the first's are taken, if it has any
            return [_missing(name, first, other)]
    for name in sorted(first.tensors.keys() & other.tensors.keys()):
        one, two = first.tensors[name], other.tensors[name]
        if one.shape != two.shape:
            sizes = first.config.get("vocab_size"), other.config.get("vocab_size")
            hint = "mix checkpoints of one model"
            if sizes[0] != sizes[1]:
                hint = (
                    f"their vocabularies have {sizes[1]} and {sizes[0]} entries: resize them "
                    "alike before fine-tuning"
                )
            return [
                f"'{name}' has the shape {list(two.shape)} in {other.folder} but "
                f"{list(one.shape)} in {first.folder}; {hint}."
            ]
        if (one.dtype in FLOATS) != (two.dtype in FLOATS):
            return [
                f"'{name}' is floating-point in only one of {first.folder} and "
                f"{other.folder}; save both in one precision."
            ]
    return []


def _readouts(checkpoints: Sequence[Checkpoint]) -> tuple[list[str], tuple[str, ...]]:
    """Problems with where the heads of classifiers read, and a note where they read the mean."""
    problems: list[str] = []
    folders: dict[Readout, Path] = {}
    for checkpoint in checkpoints:
        if checkpoint.kind.endswith("ForSequenceClassification"):
            try:
                folders.setdefault(readout_of(checkpoint.source), checkpoint.folder)
            except UserError as error:
                problems.append(str(error))
    if len(folders) > 1:
        problems.append(
            f"The head of {folders['mean']} reads the mean of its tokens, that of "
            f"{folders['first']} the first token; mix checkpoints that were trained alike, or put "
            f"their {POOLING} right."
        )
    return problems, (READ_AT_MEAN,) if "mean" in folders else ()


def _missing(name: str, first: Checkpoint, other: Checkpoint) -> str:
    owner, lacking = (first, other) if name in first.tensors else (other, first)
    ties = [c.config.get("tie_word_embeddings") for c in (first, other)]
    if "head" in name or (None not in ties and ties[0] != ties[1]):
        return (
            f"Only {owner.folder} has the tensor '{name}': {lacking.folder} may have tied it "
            "to the embeddings or have another head; save both models tied or both untied."
        )
    return (
        f"Only {owner.folder} has the tensor '{name}', {lacking.folder} has not; mix "
        "checkpoints of one architecture."
    )


def _differences(first: Checkpoint, other: Checkpoint) -> list[str]:
    warnings: list[str] = []
    a, b = first.config, other.config
    keys = sorted(k for k in (set(a) | set(b)) - HARMLESS if a.get(k) != b.get(k))
    if a and b and keys:
        warnings.append(
            f"The configurations of {other.folder} and {first.folder} differ in "
            f"{', '.join(keys)}; an export takes the first checkpoint's."
        )
    one, two = ("/".join(d for d in c.dtypes if d in FLOATS) for c in (first, other))
    if one != two:
        warnings.append(
            f"{other.folder} is stored as {two} and {first.folder} as {one}; both are "
            "mixed in single precision."
        )
    if None not in (first.tokenizer, other.tokenizer) and first.tokenizer != other.tokenizer:
        warnings.append(
            f"The tokenizers of {other.folder} and {first.folder} differ; an export "
            "takes the first checkpoint's."
        )
    return warnings


def _not_finite(row: "Tensor", layout: Layout) -> str | None:
    """The first tensor with a NaN or an infinity. A finite sum needs no second look."""
    for name, start, stop, _ in layout.spans():
        values = row[start:stop]
        if not values.sum().isfinite() and not values.isfinite().all():
            return name
    return None


def _cells(checkpoint: Checkpoint, finite: str) -> tuple[str, ...]:
    config = checkpoint.config
    return (
        str(checkpoint.folder),
        checkpoint.kind,
        str(len(checkpoint.tensors)),
        f"{checkpoint.layout.size:,}",
        "/".join(checkpoint.dtypes),
        str(config.get("vocab_size", "-")),
        checkpoint.tokenizer[:8] if checkpoint.tokenizer else "-",
        finite,
    )


def _named(value: JsonValue) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
