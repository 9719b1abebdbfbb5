"""What a training has logged, kept with its unfinished work: after a kill no log lacks a step."""

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import Logger
from pydantic import TypeAdapter, ValidationError

from dfwe.pipeline.files import write_text
from dfwe.pipeline.log_functions import has_history


@dataclass(frozen=True)
class Row:
    """Scalars of one step, counted from 0; None where a logger counts by itself."""

    step: int | None
    metrics: dict[str, float]

    def line(self) -> str:
        return json.dumps({"step": self.step, "metrics": self.metrics}) + "\n"


_ROW = TypeAdapter(Row)


class Journal(Logger):
    """A logger of Lightning's beside the others, that writes all scalars into one file.

    Args:
        path: the file, a row of JSON per line.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> None:
        """None: it has no place of its own."""

    @property
    def version(self) -> None:
        """None, as above."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = Row(step, {name: float(value) for name, value in metrics.items()})
        with self.path.open("a") as file:
            file.write(row.line())

    def log_hyperparams(
        self, params: dict[str, object] | Namespace, *args: object, **kwargs: object
    ) -> None:
        """Nothing: the recipe has them."""

    def before(self, step: int) -> list[Row]:
        """The rows of the steps before this one; the others are dropped: they come again."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows: list[Row] = []
        for line in lines:
            try:
                row = _ROW.validate_python(json.loads(line))
            except (ValueError, ValidationError):  # cut off by a kill
                continue
            if row.step is None or row.step < step:
                rows.append(row)
        write_text(self.path, "".join(row.line() for row in rows))
        return rows


class Replay(L.Callback):
    """When a training resumes, its loggers first get what earlier attempts logged."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows = self.journal.before(trainer.global_step)
        for logger in trainer.loggers:
            if logger is self.journal or has_history(logger):
                continue
            for row in rows:
                logger.log_metrics(row.metrics, step=row.step)
