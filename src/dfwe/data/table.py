"""Tables of labelled texts (Hugging Face datasets, JSONL, CSV, Parquet) as corpora and tasks."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, cast

from pydantic import TypeAdapter

from dfwe.data.corpus import SPLITS
from dfwe.data.dialogue import Dialogue, Example, known_label
from dfwe.errors import UserError, reason
from dfwe.settings import Count, settings

STORED = {"train": "train", "dev": "validation", "test": "test"}  # as `datasets` names them
_ROW = TypeAdapter(dict[str, object])


class _Table(Protocol):
    """What is used of a table of `datasets`."""

    @property
    def features(self) -> Mapping[str, object]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, column: str) -> Iterable[object]: ...

    def unique(self, column: str) -> list[object]: ...

    def select(self, indices: Iterable[int]) -> "_Table": ...

    def to_list(self) -> list[dict[str, object]]: ...


_Tables = Mapping[str, _Table]  # by the data set's names of its splits
Limit = Count | Mapping[str, Count | None]  # of every table, or by title


@settings("corpus", eq=False)
class TableCorpus:
    """One table per task; a row counts as a dialogue without turns, annotated for that task.

    Args:
        name: the corpus's name in tables of results.
        path: a folder with one folder per title, each with `train`, `dev` and `test` files
            (.jsonl, .csv, .parquet, also .gz) or a `datasets` saved to disk; `hub:NAME` for a
            data set of the Hugging Face Hub with one configuration per title.
        titles: the names of the tables; each is read when a task asks for it.
        label: the column of the labels.
        limit: how many rows of train and dev to draw, of every table or by title; all of those
            that have fewer or are not named, None takes all. Test is always whole. Labels keep
            their shares; what rounding leaves goes to the rarest.
        source_limit: the limit for a study's sources, where it is another one.
        per_label: a limit counts the rows of each label (k shots) instead of a table's.
        seed: decides which rows are drawn.
        splits: our name of a split -> the data set's; some Hub sets have no labelled test split.
            `TITLE/SPLIT` names the split of one table alone.

    Raises:
        UserError: a field is of another type, or a limit names no table.
    """

    name: str
    path: str
    titles: Sequence[str]
    label: str = "label"
    limit: Limit | None = None
    source_limit: Limit | None = None
    per_label: bool = False
    seed: int = 0
    splits: Mapping[str, str] = field(default_factory=lambda: STORED)

    def __post_init__(self) -> None:
        for key, limit in (("limit", self.limit), ("source_limit", self.source_limit)):
            if isinstance(limit, Mapping) and (lost := set(limit).difference(self.titles)):
                raise UserError(
                    f"corpus.{key} names the table '{min(lost)}', but corpus={self.name} has "
                    f"{', '.join(self.titles)}; name one of these."
                )

    def dialogues(self, split: str, title: str | None = None) -> tuple[Dialogue, ...]:
        """The split's rows, table after table.

        Args:
            split: `train`, `dev` or `test`.
            title: the one table to read; None reads all.

        Raises:
            UserError: no such split, missing or damaged tables.
        """
        if split not in SPLITS:
            raise UserError(f"Unknown split '{split}'; known: {', '.join(SPLITS)}.")
        titles = self.titles if title is None else [title]
        return tuple(row for name in titles for row in self._rows(name, split))

    def labels(self, title: str) -> tuple[str, ...]:
        """The label names that the table declares, else the labels in its train split, sorted.

        Raises:
            UserError: missing or damaged tables, no column of labels.
        """
        table = self._table(title, "train")
        names = _class_names(self._label_column(table, title))
        return tuple(sorted(map(str, table.unique(self.label)))) if names is None else names

    @cached_property
    def _loaded(self) -> dict[str, _Tables]:
        """The tables read so far, by title."""
        return {}

    def whole(self) -> "TableCorpus":
        """The same corpus with its whole train and dev splits."""
        return replace(self, limit=None, source_limit=None)

    @cached_property
    def of_sources(self) -> "TableCorpus":
        """The same corpus as a study's sources read it."""
        if self.source_limit is None:
            return self
        return replace(self, limit=self.source_limit, source_limit=None)

    def _table(self, title: str, split: str) -> _Table:
        if title not in self.titles:
            raise UserError(
                f"corpus={self.name} has no task '{title}'; it has: {', '.join(self.titles)}."
            )
        if title not in self._loaded:
            self._loaded[title] = _load(self.path, title)
        tables = self._loaded[title]
        stored = self.splits.get(f"{title}/{split}", self.splits[split])
        if stored not in tables:
            raise UserError(
                f"The table '{title}' of corpus={self.name} has no split '{stored}'; "
                f"it has: {', '.join(tables)}."
            )
        return tables[stored]

    def _label_column(self, table: _Table, title: str) -> object:
        """What the table says of its column of labels."""
        if self.label not in table.features:
            raise UserError(
                f"The table '{title}' of corpus={self.name} has no column "
                f"'{self.label}'; it has: {', '.join(table.features)}."
            )
        return table.features[self.label]

    def _numbers(self, table: _Table, title: str, split: str) -> Sequence[int]:
        """The numbers of the rows that the limit leaves, in order."""
        limit = self.limit.get(title) if isinstance(self.limit, Mapping) else self.limit
        if limit is None or split == "test":
            return range(len(table))
        self._label_column(table, title)
        labels = [str(label) for label in table[self.label]]
        return _drawn(labels, limit, self.per_label, f"{self.seed}/{title}/{split}")

    def _rows(self, title: str, split: str) -> list[Dialogue]:
        table = self._table(title, split)
        numbers = self._numbers(table, title, split)
        rows = table.select(numbers).to_list()
        if names := _class_names(table.features.get(self.label)):
            labels: dict[object, str] = dict(enumerate(names))
            for row in rows:
                row[self.label] = labels.get(row[self.label], "-1")  # a hidden label is -1
        return [
            Dialogue(f"{title}/{row.get('id', f'{split}-{number}')}", (), {title: row}, {})
            for number, row in zip(numbers, rows, strict=True)
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


def _class_names(feature: object) -> tuple[str, ...] | None:
    """The names of the classes of a column of `datasets`, where it has any."""
    names = cast(Sequence[str] | None, getattr(feature, "names", None))
    return None if names is None else tuple(names)


def classification(
    dialogues: Sequence[Dialogue],
    title: str,
    labels: Sequence[str],
    context: str,
    prompt: str,
    label: str = "label",
) -> list[Example]:
    """The label of a row.

    Args:
        dialogues: rows as `TableCorpus` gives them; those of other tables are left out.
        title: the table's name.
        labels: the labels to choose from.
        context: a template over the row's columns and `labels`, joined by `or`; it may be
            shortened once filled in.
        prompt: a template likewise, which is never shortened.
        label: the column of the labels.

    Raises:
        UserError: a row has a label that is not one of `labels`.
        KeyError: the table has no such column.
    """
    joined = " or ".join(labels)
    examples: list[Example] = []
    for dialogue in dialogues:
        if title not in dialogue.annotations:
            continue
        row = _ROW.validate_python(dialogue.annotations[title])
        gold = known_label(str(row[label]), labels, dialogue.id)
        fields = {**row, "labels": joined}
        name, texts = dialogue.id, (context.format_map(fields), prompt.format_map(fields))
        examples.append(Example(name, name, *texts, gold, (gold,), tuple(labels), keep="start"))
    return examples


def _load(path: str, title: str) -> _Tables:
    """The tables of a title by split.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from datasets.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
        DatasetGenerationError,
    )

    if path.startswith("hub:"):
        try:
            return _downloaded(path.removeprefix("hub:"), title)
        except (DatasetGenerationError, OSError, ValueError) as error:
            raise UserError(
                f"The Hub does not give '{title}' of {path} ({reason(error)}); where there is no "
                "network, set corpus.path to a folder of such tables."
            ) from error
    folder = Path(path).expanduser() / title
    if not folder.is_dir():
        raise UserError(
            f"No table at {folder}; set corpus.path to the folder that has it, or to hub:NAME."
        )
    try:
        return _from_folder(folder)
    except (DatasetGenerationError, OSError, ValueError) as error:
        raise UserError(
            f"The table '{title}' at {path} cannot be read ({reason(error)}); it "
            "needs train, dev and test files in JSONL, CSV or Parquet."
        ) from error


def _downloaded(name: str, title: str) -> _Tables:
    """The tables of a configuration of a data set of the Hub."""
    from datasets import (  # pyright: ignore[reportMissingTypeStubs]
        load_dataset,  # pyright: ignore[reportUnknownVariableType]
    )

    return cast(_Tables, load_dataset(name, title))


def _from_folder(folder: Path) -> _Tables:
    """The tables of a data set that was saved to disk, or of a folder of files."""
    from datasets import (  # pyright: ignore[reportMissingTypeStubs]
        load_dataset,  # pyright: ignore[reportUnknownVariableType]
        load_from_disk,  # pyright: ignore[reportUnknownVariableType]
    )

    if (folder / "dataset_dict.json").is_file():
        return cast(_Tables, load_from_disk(folder))
    return cast(_Tables, load_dataset(str(folder)))
