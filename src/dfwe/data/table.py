"""Tables of texts (JSON, CSV, Parquet, Hugging Face datasets) as corpora and tasks."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

from dfwe.data.corpus import SPLITS
from dfwe.data.dialogue import Dialogue, Example, known_label
from dfwe.data.rows import Row, Table, read_dataset, read_files
from dfwe.data.templates import fill
from dfwe.errors import UserError, reason
from dfwe.settings import Count, Name, settings

STORED = {"train": "train", "dev": "validation", "test": "test"}  # as `datasets` names them
FILES = {"validation": ("dev", "validation", "valid", "val")}  # what a split's may be called
HUB = "hub:"  # before the name of a data set of the Hub
SAVED = "dataset_dict.json"  # of a folder that `datasets` saved
Limit = Count | Mapping[str, Count | None]  # of every table, or by title


@settings("corpus", eq=False)
class TableCorpus:
    """One table per task; a row counts as a dialogue without turns, annotated for that task.

    Args:
        name: the corpus's name in tables of results.
        path: a folder with one folder per title, each with `train`, `dev` and `test` files
            (.jsonl, .json, .csv, .tsv, also .gz; .parquet) or a `datasets` saved to disk;
            `hub:NAME` for a data set of the Hugging Face Hub with one configuration per title.
        titles: the names of the tables; each is read when a task asks for it.
        label: the column of the labels; None where there is none, as of answers in free text.
        limit: how many rows of train and dev to draw, of every table or by title; all of those
            that have fewer or are not named, None takes all. Test is always whole. Labels keep
            their shares; what rounding leaves goes to the rarest. Without labels, rows are drawn.
        source_limit: the limit for a study's sources, where it is another one.
        per_label: a limit counts the rows of each label (k shots) instead of a table's.
        seed: decides which rows are drawn.
        splits: our name of a split -> the data set's; some Hub sets have no labelled test split.
            `TITLE/SPLIT` names the split of one table alone.
        licence: its terms, for the card of a model that is chosen on it.

    Raises:
        UserError: a field is of another type, or a limit names no table.
    """

    name: Name
    path: str
    titles: Sequence[str]
    label: str | None = "label"
    limit: Limit | None = None
    source_limit: Limit | None = None
    per_label: bool = False
    seed: int = 0
    splits: Mapping[str, str] = field(default_factory=lambda: STORED)
    licence: str | None = None

    def __post_init__(self) -> None:
        for key, limit in (("limit", self.limit), ("source_limit", self.source_limit)):
            if isinstance(limit, Mapping) and (lost := set(limit).difference(self.titles)):
                raise UserError(
                    f"corpus.{key} names the table '{min(lost)}', but corpus={self.name} has "
                    f"{', '.join(self.titles)}; name one of these."
                )
        if self.per_label and self.label is None:
            raise UserError(
                "corpus.per_label=true counts labels; name their column, corpus.label."
            )

    @property
    def hub_id(self) -> str | None:
        """Of the Hub's data set, if it is one."""
        return self.path.removeprefix(HUB) if self.path.startswith(HUB) else None

    def dialogues(self, split: str, title: str | None = None) -> Sequence[Dialogue]:
        """The split's rows, table after table.

        Args:
            split: `train`, `dev` or `test`.
            title: the one table to read; None reads all.

        Raises:
            UserError: no such split, missing or damaged tables, an id that stands there twice.
        """
        if split not in SPLITS:
            raise UserError(f"Unknown split '{split}'; known: {', '.join(SPLITS)}.")
        if title is not None:
            return self._rows(title, split)
        return tuple(row for name in self.titles for row in self._rows(name, split))

    def labels(self, title: str) -> tuple[str, ...]:
        """The label names that the table declares, else the labels in its train split: numbers by
        size, other labels by the alphabet, numbers inside them by size; none without `label`.

        Raises:
            UserError: missing or damaged tables, no column of labels, a row without a label.
        """
        table = self._table(title, "train")
        if self.label is None:
            return ()
        self._check_label(table, title, self.label)
        if self.label in table.names:
            return tuple(table.names[self.label])
        return _in_order({label for row in table for label in row.answers(self.label)})

    @cached_property
    def _tables(self) -> dict[tuple[str, str], Table]:
        """The tables read so far, by title and the data set's name of the split."""
        return {}

    def whole(self) -> "TableCorpus":
        """The same corpus with its whole train and dev splits."""
        return self._with(limit=None)

    @cached_property
    def of_sources(self) -> "TableCorpus":
        """The same corpus as a study's sources read it."""
        return self if self.source_limit is None else self._with(limit=self.source_limit)

    def _with(self, limit: Limit | None) -> "TableCorpus":
        """The same tables with another limit for all who read them."""
        other = replace(self, limit=limit, source_limit=None)
        other.__dict__["_tables"] = self._tables  # each is read once
        return other

    def _table(self, title: str, split: str) -> Table:
        if title not in self.titles:
            raise UserError(
                f"corpus={self.name} has no task '{title}'; it has: {', '.join(self.titles)}."
            )
        stored = self.splits.get(f"{title}/{split}", self.splits[split])
        if (title, stored) not in self._tables:
            table = _read(self.path, title, stored)
            _check_ids(table)
            self._tables[title, stored] = table
        return self._tables[title, stored]

    def _check_label(self, table: Table, title: str, label: str) -> None:
        if label not in table.columns:
            raise UserError(
                f"The table '{title}' of corpus={self.name} has no column '{label}'; it has: "
                f"{', '.join(table.columns)}; name the labels' by corpus.label=, or "
                "corpus.label=null where answers are free text."
            )

    def _rows(self, title: str, split: str) -> "_Dialogues":
        """The rows that the limit leaves, in order."""
        table = self._table(title, split)
        limit = self.limit.get(title) if isinstance(self.limit, Mapping) else self.limit
        positions: Sequence[int] = range(len(table))
        if limit is not None and split != "test":
            labels = [""] * len(table)
            if self.label is not None:
                self._check_label(table, title, self.label)
                labels = [row.answers(self.label)[0] for row in table]
            positions = _drawn(labels, limit, self.per_label, f"{self.seed}/{title}/{split}")
        return _Dialogues(table, positions, title, split)


class _Dialogues(Sequence[Dialogue]):
    """Rows of a table as dialogues, each built when it is asked for: a large table has many."""

    def __init__(self, table: Table, positions: Sequence[int], title: str, split: str) -> None:
        self._table = table
        self._positions = positions
        self._title = title
        self._split = split

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...

    @overload
    def __getitem__(self, index: slice) -> "_Dialogues": ...

    def __getitem__(self, index: int | slice) -> "Dialogue | _Dialogues":
        if isinstance(index, slice):
            return _Dialogues(self._table, self._positions[index], self._title, self._split)
        position = self._positions[index]
        row = self._table[position]
        numbered = f"{self._split}-{position}"
        name = row["id"] if "id" in self._table.columns else numbered
        return Dialogue(f"{self._title}/{name}", (), {self._title: row}, {})


def _check_ids(table: Table) -> None:
    """Raise UserError if two rows have one id."""
    if "id" not in table.columns:
        return
    known: set[str] = set()
    for row in table:
        if row["id"] in known:
            first = next(other for other in table if other["id"] == row["id"])
            raise UserError(
                f"{row.place} has the id '{row['id']}' of {first.place} too; make the ids unique, "
                "or leave the column out."
            )
        known.add(row["id"])


def _in_order(labels: set[str]) -> tuple[str, ...]:
    if all(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    return tuple(sorted(labels, key=_parts))


def _parts(label: str) -> list[tuple[int, str]]:
    """Words and numbers of a label, so that `class 2` stands before `class 10`."""
    parts = re.split("([0-9]+)", label)  # a word, a number, a word, ...
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if number % 2 else (0, part)
        for number, part in enumerate(parts)
    ]


def _drawn(labels: Sequence[str], limit: int, per_label: bool, seed: str) -> list[int]:
    """The numbers of the rows drawn, in order.

    The seed puts the rows of each label into an order, of which the first are taken.
    """
    order = random.Random(seed).sample(range(len(labels)), len(labels))
    rows: dict[str, list[int]] = {}
    for number in order:
        rows.setdefault(labels[number], []).append(number)
    counts = {label: len(numbers) for label, numbers in rows.items()}
    sizes = dict.fromkeys(counts, limit) if per_label else _shares(counts, limit)
    return sorted(number for label in rows for number in rows[label][: sizes[label]])


def _shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """How many rows of each label keep the labels' shares, rounded down; what is left over goes
    to the labels that then have the fewest, the more frequent of them first."""
    total = sum(counts.values())
    sizes = {label: limit * count // total for label, count in counts.items()}
    fewest = sorted(counts, key=lambda label: (sizes[label], -counts[label]))
    for label in fewest[: limit - sum(sizes.values())]:
        sizes[label] += 1
    return sizes


def classification(
    dialogues: Sequence[Dialogue],
    title: str,
    labels: Sequence[str],
    context: str,
    prompt: str,
    label: str = "label",
) -> list[Example]:
    """One of several labels: that of a table's row.

    Args:
        dialogues: rows as `TableCorpus` gives them; those of other tables are left out.
        title: the table's name.
        labels: the labels to choose from.
        context: a template over the row's columns and `labels`, joined by `or`; it may be
            shortened once filled in.
        prompt: a template likewise, which is never shortened.
        label: the column of the labels; a list there has several accepted answers, of which the
            first is taught.

    Raises:
        UserError: there are no labels; a row lacks a column, or has a label that is not one of
            `labels`.
    """
    if not labels:
        raise UserError(
            f"The table '{title}' has no labels to choose from; name them in the task (labels: "
            "[...]), or read answers in free text by dfwe.data.table.text."
        )
    return _examples(dialogues, title, tuple(labels), context, prompt, label)


def text(
    dialogues: Sequence[Dialogue],
    title: str,
    labels: Sequence[str],
    context: str,
    prompt: str,
    answer: str = "answer",
) -> list[Example]:
    """A free-text answer: that of a table's row.

    Args:
        dialogues: rows as `TableCorpus` gives them; those of other tables are left out.
        title: the table's name.
        labels: none: what may be answered is not listed.
        context: a template over the row's columns; it may be shortened once filled in.
        prompt: a template likewise, which is never shortened.
        answer: the column of the answers; a list there has several accepted answers, of which
            the first is taught.

    Raises:
        UserError: a row lacks a column; labels are given.
    """
    if labels:
        raise UserError(
            f"dfwe.data.table.text reads answers in free text, but '{title}' has the labels "
            f"{', '.join(labels)}; choose among them by dfwe.data.table.classification, or take "
            "task.answer: {_target_: dfwe.tasks.answers.FreeText} and no labels."
        )
    return _examples(dialogues, title, (), context, prompt, answer)


def _examples(
    dialogues: Sequence[Dialogue],
    title: str,
    options: tuple[str, ...],
    context: str,
    prompt: str,
    column: str,
) -> list[Example]:
    """An example a row: templates filled in, and the accepted answers of a column."""
    alone = {label: (label,) for label in options}
    joined, asked = " or ".join(options), ""
    examples: list[Example] = []
    for dialogue in dialogues:
        if title not in dialogue.annotations:
            continue
        row = Row.of(dialogue.annotations[title], dialogue.id)
        golds = row.answers(column)
        if options:
            golds = tuple(known_label(gold, alone, row.place) for gold in golds)
        golds = alone.get(golds[0], golds) if len(golds) == 1 else golds  # rows share their texts
        fields = _Fields(row, labels=joined) if options else _Fields(row)
        source, question = fill(context, fields), fill(prompt, fields)
        asked = asked if asked == question else question
        name = dialogue.id
        examples.append(Example(name, name, source, asked, golds[0], golds, options, keep="start"))
    return examples


class _Fields(dict[str, str]):
    """What templates may name: what is given, and a row's columns."""

    def __init__(self, row: Row, **given: str) -> None:
        super().__init__(given)
        self._row = row

    def __missing__(self, column: str) -> str:
        return self._row[column]


def _read(path: str, title: str, split: str) -> Table:
    """A split of a table.

    Args:
        split: its name in the data set.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if path.startswith(HUB):
        return _read_dataset(path, title, split)
    folder = Path(path).expanduser() / title
    if not folder.is_dir():
        raise UserError(
            f"No table at {folder}; set corpus.path to the folder that has it, or to hub:NAME."
        )
    if (folder / SAVED).is_file():
        return _read_dataset(path, title, split)
    return read_files(folder, FILES.get(split, (split,)))


def _read_dataset(path: str, title: str, split: str) -> Table:
    """A split of a data set of the Hub, or of one that was saved to disk."""
    from datasets import DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    hub = path.removeprefix(HUB)
    try:
        if hub == path:
            splits = load_from_disk(Path(path).expanduser() / title)
        else:
            splits = load_dataset(hub, title)
    except (DatasetGenerationError, OSError, ValueError) as error:
        raise UserError(
            f"The Hub does not give '{title}' of {path} ({reason(error)}); where there is no "
            "network, set corpus.path to a folder of such tables."
            if hub != path
            else f"{path}/{title}, saved by datasets, cannot be read ({reason(error)}); save it "
            "again."
        ) from error
    assert isinstance(splits, DatasetDict)
    if split not in splits:
        raise UserError(
            f"The table '{title}' of {path} has no split '{split}'; it has: {', '.join(splits)}."
        )
    table = Table("row")
    read_dataset(splits[split], f"{path}/{title}, split '{split}'", table)
    return table
