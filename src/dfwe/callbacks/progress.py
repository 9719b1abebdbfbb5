"""Progress bars of training, scoring and search, one line each, on standard error."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from dfwe.search.ledger import Trial


def _is_quiet() -> bool:
    """Whether the terminal is to show warnings alone."""
    handlers = logging.getLogger().handlers
    return any(type(h) is logging.StreamHandler and h.level > logging.INFO for h in handlers)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=_is_quiet(),
    )


def _fill(progress: Progress, task: TaskID) -> None:
    """What has ended is full, though less was done than might have been."""
    progress.update(task, total=progress.tasks[task].completed)
    progress.stop_task(task)


class TrainingBar(ProgressBar):
    """Optimizer steps over all epochs, with the last epoch's dev score or training loss."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self.progress = _progress()
        self.task = TaskID(0)

    def disable(self) -> None:
        self.progress.disable = True

    def enable(self) -> None:
        self.progress.disable = _is_quiet()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epochs = trainer.max_epochs or 1
        self.progress.start()
        self.task = self.progress.add_task(
            self.title,
            total=epochs * int(self.total_train_batches),
            note="",
            completed=trainer.global_step,
        )

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        self.progress.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        if "dev/score" in metrics:
            note = f"epoch {trainer.current_epoch + 1}: dev {float(metrics['dev/score']):.2f}"
        else:
            note = f"loss {float(metrics['train/loss_epoch']):.3f}"
        self.progress.update(self.task, note=note)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _fill(self.progress, self.task)
        self.progress.stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.progress.stop()


@contextmanager
def search_bar(title: str, evaluations: int | None) -> Generator[Callable[..., None]]:
    """A bar over a search's evaluations; call what it gives with each trial and the best.

    A third argument names another search of as many evaluations, which gets another line.
    """
    with _progress() as progress:
        lines: dict[str, TaskID] = {}

        def begin(name: str) -> None:
            for task in [*lines.values()][-1:]:  # searches follow one another
                _fill(progress, task)
            lines[name] = progress.add_task(name, total=evaluations, note="")

        begin(title)

        def follow(trial: Trial, best: Trial, name: str = title) -> None:
            if name not in lines:
                begin(name)
            task = lines[name]
            note = "" if best.score is None else f"best dev {best.score:.2f}"
            progress.update(task, completed=trial.index + 1, note=note)

        yield follow
        _fill(progress, [*lines.values()][-1])


@contextmanager
def scoring_bar(title: str, models: int) -> Generator[Callable[[], None]]:
    """A bar over scored models; call what it gives once a model."""
    with _progress() as progress:
        task = progress.add_task(title, total=models, note="")
        yield lambda: progress.advance(task)
