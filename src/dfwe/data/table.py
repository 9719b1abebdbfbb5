"""Tables of labelled texts (Hugging Face datasets, JSONL, CSV, Parquet) as corpora and tasks."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dfwe.data.corpus import SPLITS
from dfwe.data.dialogue import Dialogue, Example, known_label
from dfwe.errors import UserError, reason

STORED = {"train": "train", "dev": "validation", "test": "test"}  # as `datasets` names them


@dataclass(frozen=True, eq=False)
class TableCorpus:
    """One table a task; a row counts as a dialogue without turns, annotated for that task.

    Args:
        name: what the result tables call it.
        path: a folder with one folder a title, each holding `train`, `dev` and `test` files
            (.jsonl, .csv, .parquet, also .gz) or a `datasets` saved to disk; `hub:NAME` for a
            data set of the Hugging Face hub with one configuration a title.
        titles: the tables there are; each is read when a task asks for it.
        label: the column that holds the label.
        limit: how many rows of train and dev to draw, with `seed`; None takes all. Test is
            always whole.
        splits: our name of a split -> the data set's; some hub sets have no labelled test split.
            `TITLE/SPLIT` names the split of one table alone.
    """

    name: str
    path: str
    titles: Sequence[str]
    label: str = "label"
    limit: int | None = None
    seed: int = 0
    splits: Mapping[str, str] = field(default_factory=lambda: STORED)
    _read: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def dialogues(self, split: str, title: str | None = None) -> tuple[Dialogue, ...]:
        """The split's rows of a title's table, or of all, table after table.

        Raises:
            UserError: no such split, missing or damaged tables.
        """
        if split not in SPLITS:
            raise UserError(f"Unknown split '{split}'; known: {', '.join(SPLITS)}.")
        titles = self.titles if title is None else [title]
        return tuple(row for title in titles for row in self._rows(title, split))

    def labels(self, title: str) -> tuple[str, ...]:
        """The names that the table declares, else the labels in its train split, sorted."""
        table = self._table(title, "train")
        feature = table.features.get(self.label)
        if feature is None:
            raise UserError(
                f"The table '{title}' of corpus={self.name} has no column "
                f"'{self.label}'; it has: {', '.join(table.features)}."
            )
        return tuple(getattr(feature, "names", sorted(map(str, table.unique(self.label)))))

    def whole(self) -> "TableCorpus":
        """The same corpus with its whole train and dev splits."""
        return replace(self, limit=None)

    def _table(self, title: str, split: str) -> Any:
        if title not in self.titles:
            raise UserError(
                f"corpus={self.name} has no task '{title}'; it has: {', '.join(self.titles)}."
            )
        if title not in self._read:
            self._read[title] = _load(self.path, title)
        tables = self._read[title]
        stored = self.splits.get(f"{title}/{split}", self.splits[split])
        if stored not in tables:
            raise UserError(
                f"The table '{title}' of corpus={self.name} has no split '{stored}'; "
                f"it has: {', '.join(tables)}."
            )
        return tables[stored]

    def _rows(self, title: str, split: str) -> list[Dialogue]:
        table = self._table(title, split)
        chosen = range(len(table))
        if self.limit is not None and split != "test" and self.limit < len(table):
            chosen = sorted(random.Random(self.seed).sample(chosen, self.limit))
        rows = table.select(chosen).to_list()
        if names := getattr(table.features.get(self.label), "names", None):
            named = dict(enumerate(names))  # a hidden label, -1, stays what it is
            rows = [{**row, self.label: named.get(row[self.label], "-1")} for row in rows]
        return [
            Dialogue(f"{title}/{row.get('id', f'{split}-{n}')}", (), {title: row}, {})
            for n, row in zip(chosen, rows, strict=True)
        ]


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
        context, prompt: templates over the row's columns and `labels`, joined by `or`; the
            context may be shortened, the prompt never.
        label: the column that holds the label.
    """
    asked = " or ".join(labels)
    examples = []
    for dialogue in dialogues:
        if title not in dialogue.annotations:
            continue
        row = dialogue.annotations[title]
        gold = known_label(str(row[label]), labels, dialogue.id)
        fields = {**row, "labels": asked}
        examples.append(
            Example(
                dialogue.id,
                dialogue.id,
                context.format_map(fields),
                prompt.format_map(fields),
                gold,
                (gold,),
                tuple(labels),
                keep="start",
            )
        )
    return examples


def _load(path: str, title: str) -> Any:
    """Split -> table; raises UserError where there is none."""
    from datasets import DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    folder = Path(path).expanduser() / title
    try:
        if path.startswith("hub:"):
            return load_dataset(path.removeprefix("hub:"), title)
        if not folder.is_dir():
            raise UserError(
                f"No table at {folder}; set corpus.path to the folder that holds it, "
                "or to hub:NAME."
            )
        if (folder / "dataset_dict.json").is_file():
            tables = load_from_disk(folder)
            assert isinstance(tables, DatasetDict)
            return tables
        return load_dataset(str(folder))
    except (DatasetGenerationError, OSError, ValueError) as error:
        if path.startswith("hub:"):
            raise UserError(
                f"The Hub does not give '{title}' of {path} ({reason(error)}); where there is no "
                "network, set corpus.path to a folder of such tables."
            ) from error
        raise UserError(
            f"The table '{title}' at {path} cannot be read ({reason(error)}); it "
            "needs train, dev and test files in JSONL, CSV or Parquet."
        ) from error
