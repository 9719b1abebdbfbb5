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

    def unique(self, column: str) -> list[object]: ...

    def select(self, indices: Iterable[int]) -> "_Table": ...

    def to_list(self) -> list[dict[str, object]]: ...


_Tables = Mapping[str, _Table]  # by the data set's names of its splits


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
        limit: how many rows of train and dev to draw; None takes all. Test is always whole.
        seed: decides which rows are drawn.
        splits: our name of a split -> the data set's; some Hub sets have no labelled test split.
            `TITLE/SPLIT` names the split of one table alone.
    """

    name: str
    path: str
    titles: Sequence[str]
    label: str = "label"
    limit: Count | None = None
    seed: int = 0
    splits: Mapping[str, str] = field(default_factory=lambda: STORED)

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
        feature = table.features.get(self.label)
        if feature is None:
            raise UserError(
                f"The table '{title}' of corpus={self.name} has no column "
                f"'{self.label}'; it has: {', '.join(table.features)}."
            )
        names = _class_names(feature)
        return tuple(sorted(map(str, table.unique(self.label)))) if names is None else names

    @cached_property
    def _loaded(self) -> dict[str, _Tables]:
        """The tables read so far, by title."""
        return {}

    def whole(self) -> "TableCorpus":
        """The same corpus with its whole train and dev splits."""
        return replace(self, limit=None)

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

    def _rows(self, title: str, split: str) -> list[Dialogue]:
        table = self._table(title, split)
        numbers: Sequence[int] = range(len(table))
        if self.limit is not None and split != "test" and self.limit < len(table):
            numbers = sorted(random.Random(self.seed).sample(numbers, self.limit))
        rows = table.select(numbers).to_list()
        if names := _class_names(table.features.get(self.label)):
            labels: dict[object, str] = dict(enumerate(names))
            for row in rows:
                row[self.label] = labels.get(row[self.label], "-1")  # a hidden label is -1
        return [
            Dialogue(f"{title}/{row.get('id', f'{split}-{number}')}", (), {title: row}, {})
            for number, row in zip(numbers, rows, strict=True)
        ]


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
